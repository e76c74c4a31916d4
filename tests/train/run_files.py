"""What a toy run leaves in its folder, read back to be compared."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from animeflow.train import checkpoint


def final(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest is not None
    return checkpoint.load(newest)[0]


def same(a, b, *, exact: bool) -> None:
    assert a.keys() == b.keys()
    for group in a:
        assert a[group].keys() == b[group].keys()
        for name in a[group]:
            if exact:
                assert torch.equal(a[group][name], b[group][name]), name
            else:
                torch.testing.assert_close(a[group][name], b[group][name], rtol=2e-5, atol=2e-6, msg=name)


def lines_of(folder: Path) -> list[dict]:
    """The lines of a run without what a clock measured."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


def incidents_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "incidents.jsonl").read_text().splitlines()]
