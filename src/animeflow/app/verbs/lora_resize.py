"""Give a LoRA file another rank, by singular values, and say what is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...core.errors import ConfigError
from .. import lora_file
from ..show import page

if TYPE_CHECKING:
    from ...learn.resize import Resized

SHOWN = 8


def run(
    overrides: Sequence[str] = (),
    *,
    file: str,
    rank: int | None = None,
    keep: float | None = None,
    family: str | None = None,
    out: str | None = None,
) -> None:
    from ...learn.resize import kept_of_all, resize

    found = lora_file.read(file, family)
    state, told = resize(found.state, rank=rank, keep=keep)
    if all(each.after == each.before for each in told.values()):
        ranks = _span(sorted({each.before for each in told.values()}))
        raise ConfigError(
            f"nothing would get smaller: the file has rank {ranks}", where="--keep" if rank is None else f"--rank {rank}",
            why="a higher rank adds nothing to what a file says", do="give a smaller one, or keep the file as it is",
        )  # fmt: skip
    ending = f"rank{rank}" if rank is not None else f"keep{keep:g}"
    path = lora_file.place_for(Path(file), ending, dialect=found.dialect, out=out)
    change = f"resized to {'rank ' + str(rank) if rank is not None else f'{keep:.1%} of each delta W'}"
    files, apart = lora_file.write(
        path, state, family=found.family, dialect=found.dialect, dtype=found.dtype,
        metadata=lora_file.changed(found.metadata, change, state),
    )  # fmt: skip
    before, after = (sorted({getattr(each, side) for each in told.values()}) for side in ("before", "after"))
    page.title(f"{path}: {change}")
    page.facts(
        {
            "ranks": f"{_span(before)} before, {_span(after)} now",
            "kept": f"{kept_of_all(told):.2%} of |delta W|^2 over all layers; the least {min(e.kept for e in told.values()):.2%}",
            "size": f"{page.size(lora_size(Path(file)))} before, {page.size(sum(f.stat().st_size for f in files))} now",
            "read back": f"within {apart:.1e} of what was to be written",
        }
    )
    _layers(told)


def lora_size(path: Path) -> int:
    return sum(each.stat().st_size for each in path.rglob("*.safetensors")) if path.is_dir() else path.stat().st_size


def _span(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _layers(told: Mapping[str, Resized]) -> None:
    """Those that lost most."""
    rows = sorted(((each.kept, name, each) for name, each in told.items()), key=lambda row: row[0])
    if rows[0][0] == 1.0:
        return
    click.echo()
    page.table(
        ["layer", "rank", "kept"],
        [[name, f"{each.before} -> {each.after}", f"{each.kept:.2%}"] for _, name, each in rows[:SHOWN]],
    )
    if len(rows) > SHOWN:
        click.echo(f"  and {len(rows) - SHOWN} more layers that lost less")
