"""What the solvers cost and give on this model: evaluations, seconds and adherence on the same prompts and seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..core import files
from ..evaluate.adherence import score
from ..evaluate.oracle import Oracle
from ..sample.generate import generate
from ..toonworld.describe import prompt
from .prompts import held_out_scenes
from .wiring import Workspace


def compare_solvers(
    config: Mapping[str, Any], family: Any, *, height: int, width: int, count: int
) -> list[dict[str, Any]]:
    """One row per solver, also written to `solvers.json` of the run. The adaptive ones choose their own steps."""
    node = config["evaluate"]
    scenes, oracle = held_out_scenes(config, count), Oracle.load(node["oracle"])
    rows = []
    for solver, steps in (
        ("euler", node["steps"]),
        ("heun", node["steps"] // 2),
        ("bosh3", None),
        ("dopri5", None),
    ):
        started = time.perf_counter()
        samples = generate(
            family, [prompt(scene) for scene in scenes], seeds=list(range(count)), pair=True, height=height, width=width,
            solver=solver, steps=steps, cfg=node["cfg"], shift=node["shift"], batch_size=node["batch_size"],
        )  # fmt: skip
        seconds = time.perf_counter() - started
        right = score(oracle.read([sample.pixels for sample in samples]), scenes)
        nfe = [sample.recipe["nfe"] for sample in samples]
        rows.append({
            "solver": solver,
            "steps": steps if steps is not None else "adaptive",
            "nfe": round(sum(nfe) / len(nfe), 1),
            "seconds": round(seconds / count, 3),
            "adherence": right.mean,
        })  # fmt: skip
    files.write_json(Workspace.of(config).run / "solvers.json", rows)
    return rows
