"""`from animeflow import train_lora`: importing costs nothing, and one call leaves files that are what was trained.

One small run over drawn pictures is shared by all tests here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save_file

import animeflow
from animeflow import train_lora
from animeflow.app.compose import compose
from animeflow.app.library import LoraResult, plan_lora
from animeflow.app.lora import stages
from animeflow.app.lora.verify import verify
from animeflow.app.weights import trained_family
from animeflow.core.errors import ConfigError, DataError
from animeflow.learn.check import compare
from animeflow.learn.files import read_lora
from animeflow.learn.state import lora_state
from animeflow.model import registry
from animeflow.toonworld.dataset import write_dataset

FEW: dict[str, Any] = {
    "train.images": 16, "train.log_every_images": 8, "train.checkpoint_every_images": 8, "train.validate.every_images": 16,
    "train.samples.every_images": 16, "train.threads": 1, "evaluate.steps": 1, "sample.steps": 1, "export.dtype": "fp32",
    "learn.rank": 4, "sample.prompts": ["nova, 1girl"], "recipe.prior.kind": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("library")
    write_dataset(place / "nova", count=8, guest="nova", sidecars=True, workers=0)
    return place


@pytest.fixture(scope="module")
def titles() -> list[str]:
    return []


@pytest.fixture(scope="module")
def settings(folder: Path) -> dict[str, Any]:
    return FEW | {"set": str(folder / "set"), "run": str(folder / "run")}


@pytest.fixture(scope="module")
def result(folder: Path, settings: dict[str, Any], titles: list[str]) -> LoraResult:
    return train_lora(folder / "nova", tiny=True, settings=settings, on_progress=titles.append)


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, animeflow; assert 'train_lora' in dir(animeflow); print('torch' in sys.modules, 'hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="train_loar"):
        _ = animeflow.train_loar
    assert animeflow.train_lora is train_lora
    assert {"train_lora", "plan_lora", "LoraResult"} < set(animeflow.__all__)


def test_the_files_hold_what_the_checkpoint_holds(result: LoraResult) -> None:
    config = compose(result.words)
    fam, images = trained_family(config)
    assert images == 16 and result.finished
    trained = lora_state(fam.backbone(), fam)
    assert set(result.files) == {"kohya", "diffusers", "peft"}
    for dialect, path in result.files.items():
        found = read_lora(path, family=fam.name)
        assert found.dialect == dialect
        assert compare(trained, found.state) < 1e-6
    assert any(bool(each.up.any()) for each in trained.values())


def test_the_run_leaves_a_report_a_card_and_its_own_words(result: LoraResult, titles: list[str]) -> None:
    assert result.report is not None and result.report.is_file()
    assert (result.run / "export" / "README.md").is_file() and (result.run / "before_after.png").is_file()
    assert result.metrics["images"] == 16 and "val/loss" in result.metrics
    assert titles[0] == "read the pictures" and titles[-1] == "report" and "verify them" in titles
    assert set(json.loads((result.run / "timings.json").read_text())) == set(titles[:-1])
    from animeflow.app.cli import words

    saved = words([f"@{result.run / stages.WORDS}"])
    assert saved == list(result.words)
    assert json.loads(json.dumps(compose(saved))) == json.loads((result.run / "config.json").read_text())


def test_the_same_call_again_does_nothing_twice(folder: Path, settings: dict[str, Any], result: LoraResult) -> None:
    before = load(result.files["kohya"].read_bytes())
    cache = {p: p.stat().st_mtime_ns for p in (folder / "set" / "cache").rglob("*.safetensors")}
    again = train_lora(folder / "nova", tiny=True, settings=settings)
    assert again.metrics["images"] == 16 and again.words == result.words
    assert {p: p.stat().st_mtime_ns for p in (folder / "set" / "cache").rglob("*.safetensors")} == cache
    after = load(again.files["kohya"].read_bytes())
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_other_settings_are_refused_before_anything_is_written(
    folder: Path, settings: dict[str, Any], result: LoraResult
) -> None:
    def state() -> dict[str, bytes]:
        kept = (p for p in [*result.run.glob("*"), *(folder / "set").rglob("*.json")] if p.is_file())
        return {str(path): path.read_bytes() for path in kept}

    before, titles = state(), list[str]()
    for other in ({"train.images": 8}, {"learn.rank": 8}, {"data.shard.min_side": 65}, {"catalogue.val_share": 0.5}):
        with pytest.raises(ConfigError, match=f"{next(iter(other))}: .* there, .* here"):
            plan_lora(folder / "nova", tiny=True, settings=settings | other)
        with pytest.raises(ConfigError, match="other settings"):
            train_lora(folder / "nova", tiny=True, settings=settings | other, on_progress=titles.append)
    assert state() == before and not titles
    told = {row.name: row.why for row in plan_lora(folder / "nova", tiny=True, settings=settings)}
    assert told["run"].startswith("is done")


def test_a_file_that_was_changed_is_not_verified(result: LoraResult, tmp_path: Path) -> None:
    make = registry.constructor(compose(result.words)["model"]["family"])
    family = make("tiny", weights=compose(result.words)["model"]["weights"])  # type: ignore[call-arg]
    layers = len(read_lora(result.files["kohya"]).state)
    assert verify(result.files, family=family, layers=layers).layers == layers
    tensors = load_file(result.files["diffusers"])
    name = next(key for key in tensors if key.endswith("lora_B.weight"))
    save_file(tensors | {name: tensors[name] + 0.1}, tmp_path / "changed.safetensors")
    with pytest.raises(DataError, match="adds something else"):
        verify({**result.files, "diffusers": tmp_path / "changed.safetensors"}, family=family, layers=layers)
    save_file(tensors | {name: tensors[name] * torch.nan}, tmp_path / "nan.safetensors")
    with pytest.raises(DataError, match="not whole"):
        verify({"diffusers": tmp_path / "nan.safetensors"}, family=family, layers=layers)
    with pytest.raises(DataError, match=f"{layers} of {layers + 1} layers"):
        verify(result.files, family=family, layers=layers + 1)


def test_a_plan_writes_nothing(folder: Path, settings: dict[str, Any]) -> None:
    elsewhere = settings | {"set": str(folder / "none"), "run": str(folder / "nowhere")}
    told = {row.name: row for row in plan_lora(folder / "nova", tiny=True, settings=elsewhere, trigger="novaa")}
    assert told["trigger"].value == "novaa" and told["trigger"].origin == "you"
    assert not (folder / "none").exists() and not (folder / "nowhere").exists()


def test_the_page_runs_as_it_stands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second example of the page, which puts the parts together by hand; the first is the call that this file is about."""
    page = (Path(__file__).parents[1] / "docs" / "lora.md").read_text(encoding="utf-8")
    call, by_hand = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "train_lora(" in call
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    done: dict[str, Any] = {}
    exec(compile(by_hand, "docs/lora.md", "exec"), done)
    found = read_lora("by_hand.safetensors")
    assert set(found.state) == set(done["state"]) and any(bool(each.up.any()) for each in found.state.values())
