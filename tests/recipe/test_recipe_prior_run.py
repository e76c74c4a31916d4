"""A run with masks and a prior: however its steps are cut or interrupted it is the same run, and it waits for nothing."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from animeflow.core import seed as keyed
from animeflow.core.batch import Batch
from animeflow.core.conditioning import Conditioning
from animeflow.optim.adamw import AdamW
from animeflow.optim.schedule import Constant
from animeflow.recipe.velocity import Velocity
from animeflow.train import checkpoint
from animeflow.train.settings import Settings
from animeflow.train.telemetry import Telemetry
from animeflow.train.totals import BINS, Totals
from animeflow.train.tracker import Tracker
from animeflow.train.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
import toy
from test_train_no_wait import Watch


class Added(toy.Learner):
    """The toy of the trainer as a base, and a linear addition."""

    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)
        self.added = nn.Conv2d(4, 4, 1, bias=False)
        nn.init.zeros_(self.added.weight)
        self.on = True

    def forward(self, x_BChw: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        v = super().forward(x_BChw, t_B, cond)
        return v + self.added(x_BChw) if self.on else v

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        self.on = False
        try:
            yield
        finally:
            self.on = True


class Steps(toy.Steps):
    """Every third picture has no mask: ones."""

    def _batch(self, part) -> Batch:
        batch = super()._batch(part)
        h, w = batch.latents.shape[2:]
        masks = [
            keyed.normal((1, h, w), uid, "mask").sigmoid() if uid % 3 else torch.ones(1, h, w) for uid in part.uids
        ]
        classes = torch.stack([keyed.normal((3,), uid, "class") for uid in part.uids])
        return replace(batch, masks=torch.stack(masks), prior=Conditioning({"text": classes}))


def trainer(folder: Path, *, images: int, micro_batch: int = 8, weight: float = 0.5) -> Trainer:
    learner = Added()
    return Trainer(
        learner=learner,
        recipe=lambda wrapped: Velocity(wrapped, seed=3, prior_weight=weight, base=learner.off),
        steps=Steps(batch=8, micro_batch=micro_batch),
        optim=AdamW(lr=1e-2),
        schedule=Constant(warmup_images=16),
        settings=Settings(
            images=images, precision="fp32", log_every_images=16, checkpoint_every_images=24, device="cpu",
            watchdog_seconds=0,
        ),
        folder=folder,
        tracker=Tracker(folder),
        identity={"seed": 3},
    )  # fmt: skip


def lines(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in found]


def learned(folder: Path) -> Tensor:
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest is not None
    return checkpoint.load(newest)[0]["learner"]["added.weight"]


def test_two_micro_batches_of_four_train_as_one_of_eight(tmp_path):
    for name, micro_batch in (("whole", 8), ("halves", 4)):
        trainer(tmp_path / name, images=80, micro_batch=micro_batch).run()
    torch.testing.assert_close(learned(tmp_path / "halves"), learned(tmp_path / "whole"), rtol=2e-5, atol=2e-6)
    for one, other in zip(lines(tmp_path / "whole"), lines(tmp_path / "halves"), strict=True):
        assert one["train/loss_prior"] == pytest.approx(other["train/loss_prior"], rel=1e-5)


def test_a_resumed_run_is_the_uninterrupted_one_with_its_lines(tmp_path):
    trainer(tmp_path / "whole", images=96).run()
    stopped = trainer(tmp_path / "parts", images=96)
    stopped.settings = Settings(**{**vars(stopped.settings), "images": 48})
    stopped.run()
    again = trainer(tmp_path / "parts", images=96)
    assert again.resume()
    again.run()
    assert torch.equal(learned(tmp_path / "parts"), learned(tmp_path / "whole"))
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert all("train/loss_prior" in line for line in lines(tmp_path / "whole"))


def test_a_line_of_steps_on_both_sides_of_a_checkpoint_has_the_mean_over_all():
    one, totals = Telemetry(torch.device("cpu")), Totals(torch.zeros(3 * BINS + 8, dtype=torch.float64))
    one.add(totals, images=8, wait_s=0.0, parts={"prior": torch.tensor([3.0, 8.0], dtype=torch.float64)})
    other = Telemetry(torch.device("cpu"))
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    other.add(totals, images=8, wait_s=0.0, parts={"prior": torch.tensor([1.0, 2.0], dtype=torch.float64)})
    assert other.flush()["train/loss_prior"] == pytest.approx(0.4)
    assert "train/loss_prior" not in other.flush() and "parts" not in other.state_dict()


def test_the_prior_holds_the_addition_back_and_its_lines_say_how_far_it_is(tmp_path):
    for name, weight in (("free", 0.0), ("held", 20.0)):
        trainer(tmp_path / name, images=160, weight=weight).run()
    assert float(learned(tmp_path / "held").norm()) < 0.5 * float(learned(tmp_path / "free").norm())
    assert not any("train/loss_prior" in line for line in lines(tmp_path / "free"))
    first, *_, last = [line["train/loss_prior"] for line in lines(tmp_path / "held")]
    assert 0 <= first < last


def test_a_step_reads_nothing_back(tmp_path):
    from animeflow.train.feed import Fed

    run = trainer(tmp_path, images=80)
    steps = iter(run.steps)
    for _ in range(4):
        batches = [run.recipe.prepare(batch) for batch in next(steps)]
        with Watch() as watch:
            reports, totals, _ = run.step(batches)
            run.books.add(Fed(batches, {}, 0.0), reports, totals)
        assert not watch.seen
