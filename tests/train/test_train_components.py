"""Every component of a mixture has its own loss and its share in the lines of a run."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from toy import Steps, trainer

from animeflow.train.telemetry import Telemetry
from animeflow.train.totals import Totals

NAMES = ("anime", "photos", "others")


class Mixed(Steps):
    """Every third picture is a photo, and none is of the others."""

    def _batch(self, part):
        numbers = torch.tensor([int(uid % 3 == 0) for uid in part.uids])
        return replace(super()._batch(part), components=numbers, names=NAMES)

    def components(self, uids):
        return [NAMES[int(uid % 3 == 0)] for uid in uids.tolist()]


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_tells_loss_and_share_of_every_component(tmp_path):
    run = trainer(tmp_path / "a", images=64)
    run.steps = Mixed(batch=8, micro_batch=4, poison=3)
    run.place, seen, add = run.steps.state_dict(), [], run.books.add

    def watched(fed, reports, totals):
        for batch, report in zip(fed.batches, reports, strict=True):
            seen.append([*zip(batch.components.tolist(), report.loss_B.tolist(), strict=True)])
        add(fed, reports, totals)

    run.books.add = watched
    run.run()
    told = lines(tmp_path / "a")
    assert len(told) == 4 and len(seen) == 16
    for number, line in enumerate(told):
        pictures = [pair for batch in seen[4 * number : 4 * number + 4] for pair in batch if pair[1] == pair[1]]
        for component, name in enumerate(NAMES[:2]):
            mine = [loss for which, loss in pictures if which == component]
            assert line[f"train/loss/{name}"] == pytest.approx(sum(mine) / len(mine), rel=1e-6)
            assert line[f"data/share/{name}"] == pytest.approx(len(mine) / len(pictures))
        assert "train/loss/others" not in line and line["data/share/others"] == 0
    plain = trainer(tmp_path / "b", images=64, micro_batch=4, poison=3)
    plain.run()
    ledger = pq.read_table(tmp_path / "a" / "ledger.parquet")
    assert ledger["component"].to_pylist() == [NAMES[int(int(uid, 16) % 3 == 0)] for uid in ledger["uid"].to_pylist()]
    assert ledger.drop_columns("component").equals(pq.read_table(tmp_path / "b" / "ledger.parquet"))
    for mixed, line in zip(told, lines(tmp_path / "b"), strict=True):
        assert mixed["train/loss"] == line["train/loss"] and not any(key.startswith("data/share") for key in line)


def test_what_was_not_told_yet_is_in_the_state():
    def one(telemetry: Telemetry, losses: list[float]) -> None:
        totals = Totals.of(
            [(torch.tensor(losses), torch.full((len(losses),), 0.5))],
            norm=torch.tensor(1.0), wishes=(), sum_up=lambda values: values,
        )  # fmt: skip
        sums = torch.tensor([[sum(losses), len(losses)], [0, 0]], dtype=torch.float64)
        telemetry.add(totals, images=len(losses), wait_s=0.0, components=(NAMES[:2], sums))

    whole, first, second = (Telemetry(torch.device("cpu")) for _ in range(3))
    for telemetry, losses in ((whole, [1.0, 2.0]), (whole, [6.0]), (first, [1.0, 2.0])):
        one(telemetry, losses)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    one(second, [6.0])
    keys = ("train/loss/anime", "data/share/anime", "data/share/photos")
    told, again = whole.flush(), second.flush()
    assert [told[key] for key in keys] == [again[key] for key in keys] == [3.0, 1.0, 0.0]
    assert "train/loss/photos" not in told
    assert not any("anime" in key for key in whole.flush()), "a line tells of its own pictures"
