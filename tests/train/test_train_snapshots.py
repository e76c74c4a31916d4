"""Snapshots come at equal distances and once, whatever interrupted the run, and are what the averages were."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from animeflow.core.errors import DataError
from animeflow.optim.posthoc import combine, fit
from animeflow.optim.power_ema import PowerEMA
from animeflow.train import checkpoint, snapshots
from animeflow.train.checkpoint import SaveFailed
from animeflow.train.settings import Averages
from animeflow.train.snapshots import Profile, Snapshots, kept

IMAGES = 400


class Run:
    """A walk in steps of `batch` images that keeps snapshots, and can be resumed from anywhere it has been."""

    def __init__(self, root: Path, *, count: int, batch: int = 8, dtype: str = "fp32", images: int = IMAGES) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = nn.Linear(6, 3)
        self.ema = PowerEMA(self.module, sigma_rels=(0.05, 0.10))
        averages = Averages(snapshots=count, snapshot_dtype=dtype)
        self.snapshots = Snapshots(root, averages, total_images=images)
        self.seen, self.batch, self.images = 0, batch, images

    def go(self, until: int, *, other_way: int = 0) -> Run:
        while self.seen < until:
            draw = torch.Generator().manual_seed(1000 * other_way + self.seen)
            with torch.no_grad():
                for p in self.module.parameters():
                    p.add_(torch.randn(p.shape, generator=draw))
            self.seen += self.batch
            self.ema.update(self.seen, self.batch)
            self.snapshots.keep(self.seen, self.ema)
        return self

    def resumed(self, root: Path, at: Run, **options) -> Run:
        """Another process that goes on from where `at` stands."""
        run = Run(root, batch=self.batch, images=self.images, **options)
        run.module.load_state_dict(at.module.state_dict())
        run.ema.load_state_dict({g: {n: t.clone() for n, t in v.items()} for g, v in at.ema.state_dict().items()})
        run.seen = at.seen
        return run


def names(root: Path) -> list[int]:
    return [int(folder.name) for folder in checkpoint.list_folders(root)]


@pytest.mark.parametrize(
    ("count", "batch", "expected"),
    [
        (4, 8, [104, 200, 304, 400]),  # 100 and 300 lie within a step
        (4, 100, [100, 200, 300, 400]),
        (3, 7, [140, 273, 406]),  # the last step passes the end
        (50, 100, [100, 200, 300, 400]),  # never more than steps
        (1, 8, [400]),
        (0, 8, []),
    ],
)
def test_they_come_at_equal_distances_with_the_end(tmp_path: Path, count, batch, expected) -> None:
    Run(tmp_path, count=count, batch=batch).go(IMAGES)
    assert names(tmp_path) == expected


@pytest.mark.parametrize("stop", [0, 96, 104, 112, 304, 392])
@pytest.mark.parametrize("ahead", [0, 104, 400])
def test_a_resumed_run_keeps_what_an_uninterrupted_one_keeps(tmp_path: Path, stop: int, ahead: int) -> None:
    """Stopped at `stop`, where its checkpoint is, after it had gone `ahead` images farther than that without one."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    Run(straight, count=4).go(IMAGES)
    first = Run(broken, count=4).go(stop)
    first.resumed(broken, first, count=4).go(min(stop + ahead, IMAGES))  # its checkpoint was never written
    first.resumed(broken, first, count=4).go(IMAGES)
    assert names(broken) == names(straight)
    for one, two in zip(kept(straight), kept(broken), strict=True):
        assert one.profile == two.profile
        assert all(torch.equal(tensor, two.load()[name]) for name, tensor in one.load().items())


def test_a_whole_one_is_not_written_again_and_a_broken_one_is(tmp_path: Path) -> None:
    first = Run(tmp_path, count=4).go(96)
    first.resumed(tmp_path, first, count=4).go(208)
    whole, broken = checkpoint.list_folders(tmp_path)
    before = {path: path.stat().st_ino for folder in (whole, broken) for path in folder.iterdir()}
    victim = next(broken.glob("*.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-1])
    first.resumed(tmp_path, first, count=4).go(208)
    assert all(path.stat().st_ino == inode for path, inode in before.items() if path.parent == whole)
    assert checkpoint.verify(broken) is None


def test_a_run_that_takes_another_way_deletes_what_lies_ahead(tmp_path: Path) -> None:
    other = tmp_path / "other"
    first = Run(tmp_path / "run", count=4).go(192)
    run = first.resumed(tmp_path / "run", first, count=4).go(304)
    assert names(tmp_path / "run") == [104, 200, 304]
    back = first.resumed(tmp_path / "run", first, count=4)
    back.snapshots = run.snapshots  # a roll-back happens within one process
    back.snapshots.rewind(192)
    assert names(tmp_path / "run") == [104]
    back.go(IMAGES, other_way=1)
    assert names(tmp_path / "run") == [104, 200, 304, 400]
    straight = Run(other, count=4).go(192)
    straight.go(IMAGES, other_way=1)
    for one, two in zip(kept(other), kept(tmp_path / "run"), strict=True):
        assert torch.equal(one.load()["weight"], two.load()["weight"])
    back.snapshots.rewind(-1)
    assert names(tmp_path / "run") == []


@pytest.mark.parametrize(("dtype", "error"), [("fp32", 0.0), ("fp16", 2**-11), ("bf16", 2**-8)])
def test_they_are_the_averages_in_the_asked_for_bits(tmp_path: Path, dtype: str, error: float) -> None:
    run = Run(tmp_path, count=1, dtype=dtype).go(IMAGES)
    for each in kept(tmp_path):
        for name, tensor in each.load().items():
            true = run.ema.group(each.profile.sigma_rel)[name]
            assert tensor.dtype == snapshots.DTYPES[dtype]
            assert torch.allclose(tensor.float(), true, rtol=error, atol=0)
            assert dtype == "fp32" or not torch.equal(tensor.float(), true)


def test_another_width_is_made_of_them(tmp_path: Path) -> None:
    run = Run(tmp_path, count=16)
    true = PowerEMA(run.module, sigma_rels=(0.07,))
    update = run.ema.update

    def both(images_seen: int, batch: int) -> None:
        update(images_seen, batch)
        true.update(images_seen, batch)

    run.ema.update = both
    run.go(IMAGES)
    stored = kept(tmp_path)
    assert [each.profile for each in stored[:2]] == [Profile(32, 0.05), Profile(32, 0.10)]
    found = fit([each.profile for each in stored], Profile(IMAGES, 0.07))
    made = combine((each.load() for each in stored), found.weights)
    for name, tensor in true.group(0.07).items():
        assert (made[name] - tensor).norm() < 0.01 * tensor.norm()  # 50 steps are coarse against 16 snapshots
        assert (stored[-1].load()[name] - tensor).norm() > 0.03 * tensor.norm()


def test_a_disk_that_refuses_costs_the_snapshot_and_not_the_run(tmp_path: Path, caplog, monkeypatch) -> None:
    run = Run(tmp_path, count=4).go(104)

    def refuse(*args, **options):
        raise SaveFailed("no room", where=str(tmp_path))

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(run.snapshots._checkpoints, "save", refuse)
        run.go(208)
    assert "the snapshot at 200 images is left out: no room" in caplog.text
    run.go(IMAGES)
    assert names(tmp_path) == [104, 304, 400]


def test_broken_ones_are_named_and_passed_over_and_none_is_told(tmp_path: Path, caplog) -> None:
    Run(tmp_path, count=2).go(IMAGES)
    (checkpoint.list_folders(tmp_path)[0] / "MANIFEST.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert {each.profile.images for each in kept(tmp_path)} == {IMAGES}
    assert "000000000200 is not used" in caplog.text
    with pytest.raises(DataError, match="kept no snapshots") as caught:
        kept(tmp_path / "nowhere")
    assert "train.ema.snapshots=16" in str(caught.value)
