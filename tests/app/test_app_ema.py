"""`animeflow ema`: the file is the average that the run would have kept, says how it was made, and is whole or absent."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from animeflow.app import averaged
from animeflow.app.verbs import ema
from animeflow.core.errors import ConfigError, DataError
from animeflow.model.tensor_file import write_tensors
from animeflow.optim.power_ema import PowerEMA
from animeflow.train import checkpoint
from animeflow.train.settings import Averages
from animeflow.train.snapshots import Snapshots

IMAGES, BATCH = 4096, 8


def walk(folder: Path, *, widths: tuple[float, ...], until: int = IMAGES) -> PowerEMA:
    """A run's folder with 16 snapshots in fp16 of two widths; returns the averages of `widths` as they were after `until`."""
    module = nn.Linear(24, 8)
    stored, true = PowerEMA(module, sigma_rels=(0.05, 0.10)), PowerEMA(module, sigma_rels=widths)
    snapshots = Snapshots(folder / "snapshots", Averages(snapshots=16), total_images=IMAGES)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for seen in range(BATCH, IMAGES + 1, BATCH):
            for p in module.parameters():
                p.add_(torch.randn(p.shape, generator=draw))
            stored.update(seen, BATCH)
            snapshots.keep(seen, stored)
            if seen <= until:
                true.update(seen, BATCH)
    return true


@pytest.fixture(scope="module")
def walked(tmp_path_factory) -> tuple[Path, PowerEMA]:
    """A run's folder, and averages of other widths too, at its end."""
    folder = tmp_path_factory.mktemp("walked") / "run"
    return folder, walk(folder, widths=(0.05, 0.07, 0.15))


def words(folder: Path) -> list[str]:
    return ["name=walked", f"run='{folder}'", "train.threads=1"]


@pytest.mark.parametrize("width", [0.05, 0.07, 0.15])
def test_the_file_is_the_average_that_the_run_would_have_kept_and_says_how_it_was_made(walked, width: float) -> None:
    folder, true = walked
    ema.run(words(folder), sigma_rel=width)
    tensors, made = averaged.read_average(folder / "ema" / f"sigma_rel-{width:.3f}.safetensors")
    assert tensors.keys() == {"weight", "bias"}
    for name, tensor in true.group(width).items():
        assert tensors[name].dtype == torch.float32
        assert (tensors[name] - tensor).norm() < 1e-3 * tensor.norm()
    assert (made["run"], made["images_seen"], made["sigma_rel"]) == ("walked", IMAGES, width)
    assert sum(each["weight"] for each in made["snapshots"]) == pytest.approx(1)
    stored = {"images": IMAGES, "sigma_rel": 0.05, "weight": 1.0}
    assert (made["snapshots"] == [stored]) == (width == 0.05), "what is stored is taken as it is"
    assert len(made["snapshots"]) in (1, 32)
    assert made["expected_error"] < 1e-3


def test_a_dry_run_tells_the_fit_and_writes_nothing(walked, tmp_path: Path, caplog) -> None:
    folder, _ = walked
    with caplog.at_level(logging.INFO, logger="animeflow"):
        ema.run(words(folder), sigma_rel=0.0812, dry_run=True)
    told = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("average of width 0.0812 of the first 4,096 images") for line in told)
    rows = [line.split() for line in told if line.lstrip()[:1].isdigit()]
    assert len(rows) == 16 and sum(float(w) for row in rows for w in row[1:]) == pytest.approx(1, abs=1e-4)
    assert any("expected error" in line for line in told)
    assert told[-1] == f"would write {folder / 'ema' / 'sigma_rel-0.0812.safetensors'}"
    assert not (folder / "ema" / "sigma_rel-0.0812.safetensors").exists()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("width", [0.01, 0.28])
def test_a_width_that_the_snapshots_make_badly_is_warned_of(walked, caplog, width: float) -> None:
    with caplog.at_level(logging.WARNING, logger="animeflow"):
        ema.run(words(walked[0]), sigma_rel=width, dry_run=True)
    assert "this width is not made well of these snapshots; widths from 0.02" in caplog.text


def test_no_snapshots_and_no_such_width_are_told(walked, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such run"):
        ema.run(words(tmp_path / "run"), sigma_rel=0.07)
    (tmp_path / "run").mkdir()
    with pytest.raises(DataError, match="kept no snapshots") as caught:
        ema.run(words(tmp_path / "run"), sigma_rel=0.07)
    assert "train.ema.snapshots" in str(caught.value.do)
    with pytest.raises(ConfigError, match=r"between 0\.005"):
        ema.run(words(walked[0]), sigma_rel=0.5)


def test_a_snapshot_that_was_damaged_is_found_before_anything_is_written(walked, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for snapshot in checkpoint.list_folders(walked[0] / "snapshots"):
        for file in snapshot.iterdir():
            copy = folder / "snapshots" / snapshot.name / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    victim = next(checkpoint.list_folders(folder / "snapshots")[-1].glob("*.safetensors"))
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is not the file that was written"):
        ema.run(words(folder), sigma_rel=0.07)
    assert not list((folder / "ema").glob("*"))


def test_another_file_is_not_taken_for_an_average(tmp_path: Path) -> None:
    path = write_tensors(tmp_path / "model.safetensors", {"weight": torch.ones(2)}, {})
    with pytest.raises(DataError, match="no average of a run"):
        averaged.read_average(path)


def test_widths_have_names_of_their_own() -> None:
    names = {averaged.place_of(Path("run"), width).name for width in (0.07, 0.0704, 0.071)}
    assert names == {"sigma_rel-0.070.safetensors", "sigma_rel-0.0704.safetensors", "sigma_rel-0.071.safetensors"}


def test_an_earlier_state_is_the_average_that_it_had_then(tmp_path) -> None:
    folder, half = tmp_path / "run", IMAGES // 2
    true = walk(folder, widths=(0.08,), until=half)
    ema.run(words(folder), sigma_rel=0.08, images=half)
    tensors, made = averaged.read_average(folder / "ema" / f"sigma_rel-0.080-{half}.safetensors")
    assert made["images_seen"] == half and all(each["images"] <= half for each in made["snapshots"])
    for name, tensor in true.group(0.08).items():
        assert (tensors[name] - tensor).norm() < 3e-3 * tensor.norm()
    for images in (8, IMAGES + 8):
        with pytest.raises(DataError, match="no average after"):
            ema.run(words(folder), sigma_rel=0.08, images=images)
