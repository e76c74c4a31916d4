"""Draws docs/images/panel.svg, the panel of a run with made-up numbers: python scripts/panel_picture.py"""

from __future__ import annotations

import io
import math
import re
import time
from pathlib import Path

from rich.console import Console

from animeflow.train.panel import Panel

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "panel.svg"


def made_up() -> Panel:
    console = Console(width=108, height=40, force_terminal=True, file=io.StringIO())
    panel = Panel(
        total_images=1_333_376,
        title="nekofantasia_0_1",
        price_per_hour=(2.0, 3.0),
        devices=8,
        seconds=8.66 * 3600,
        console=console,
    )
    for i in range(208):
        panel.advance(2_000)
        loss = 0.48 + 0.12 * math.exp(-i / 50) + 0.004 * math.sin(i * 1.7)
        panel.show({"train/loss": loss + 0.01 * math.sin(i), "train/loss_ema": loss})
    panel.show(
        {f"train/loss_bin_{i}": 0.52 - 0.55 * t + 0.62 * t * t for i in range(10) for t in [(i + 0.5) / 10]}
        | {"train/grad_norm": 0.412, "optim/lr": 1e-4, "time/images_per_second": 13.2, "time/data_wait_share": 0.002}
        | {"time/mfu": 0.45, "memory/peak_gib": 61.3}
    )
    now = time.monotonic()
    panel.facts._places.clear()
    panel.facts._places.extend([(now - 1000, panel.facts.images - 12_900), (now, panel.facts.images)])
    panel.due(checkpoint=500_000, samples=450_000)
    panel.facts.keys = True
    panel.facts.events.extend(
        ["06:12:40  checkpoint of 400,000 images saved in 1.9 s", "06:14:02  samples of 400,000 images drawn"]
    )
    return panel


if __name__ == "__main__":
    panel = made_up()
    paper = Console(width=108, record=True, file=io.StringIO())
    paper.print(panel._draw())
    svg = paper.export_svg(title="animeflow train", unique_id="panel")
    # The picture loads nothing from elsewhere: the viewer's own fixed-width font is as good.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"Fira Code, ?monospace|Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace", svg)
    PICTURE.write_text(svg)
