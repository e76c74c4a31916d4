"""Measure one part against a limit or a peer, both in one run, and print JSON."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core import files
from ...core.errors import ConfigError
from ..compose import compose
from ..jobs import job_of
from ..wiring import use_threads

ONE_CORE = ("reader", "images", "screen")


def run(
    overrides: Sequence[str], *, kind: str, against: str | None = None, rounds: int = 5, out: str | None = None
) -> None:
    """`animeflow.bench.KIND.run`, and what it was measured on. The JSON alone goes to stdout; what is told meanwhile to stderr."""
    if against is not None and kind in ONE_CORE:
        raise ConfigError(f"bench {kind} has its peers in every run", where="--against", do="leave --against out")
    config = compose(overrides)
    use_threads(1 if kind in ONE_CORE else config["train"]["threads"])
    measured = measure(config, kind=kind, against=against, rounds=rounds)
    if out is not None:
        files.write_json(Path(out), measured)
    print(json.dumps(measured, indent=2))


def measure(config: dict[str, Any], *, kind: str, against: str | None, rounds: int) -> dict[str, Any]:
    """What the benchmark says of itself, with the versions and the machine unless it says those too."""
    import torch

    from ...bench import machine

    bench = importlib.import_module(f"animeflow.bench.{kind}")
    found: dict[str, Any] = bench.run(job_of(kind, config), against=against, rounds=rounds)
    cuda = config["train"]["device"] != "cpu" and torch.cuda.is_available()
    return found if "machine" in found else {**found, "machine": machine.facts(torch.device("cuda" if cuda else "cpu"))}
