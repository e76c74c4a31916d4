"""A LoRA through the verbs that scripts use, over the small bases that come along: what is trained is what the files give back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from animeflow.app.bases import tiny_base
from animeflow.app.compose import compose_run
from animeflow.app.weights import trained_family
from animeflow.core import files
from animeflow.image.decode import decode
from animeflow.learn.files import read_lora
from animeflow.learn.state import lora_state
from animeflow.sample.png import read_recipe
from animeflow.toonworld.dataset import write_dataset
from animeflow.train import checkpoint

pytestmark = pytest.mark.slow
DIALECTS = ("kohya", "comfyui", "diffusers", "peft")


@pytest.fixture(scope="module", params=["sd35", "anima"])
def run(
    request, animeflow: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, list[str]]]:
    """Words of a run that was stopped in the middle and went on, with its files."""
    folder = tmp_path_factory.mktemp(request.param)
    write_dataset(folder / "nova", 14, sizes=[(96, 96)], guest="nova", sidecars=True)
    words = [
        f"experiment={request.param}_tiny_lora", f"set={folder}/set", f"run={folder}/run", "name=nova",
        f"catalogue.source.concepts={{nova:{{root:{folder}/nova}}}}",
        "text.concepts={nova:{trigger:nova,class:1girl,prune:['*_hair','*_eyes','twintails','cat_ears']}}",
        f"model.weights={tiny_base(request.param)}", "model.codec=null", "catalogue.val_share=0.2", "catalogue.workers=0",
        "data.shard.workers=0", "data.loader.batch=4", "data.loader.micro_batch=4", "train.threads=1",
        "train.checkpoint_every_images=8",
        "train.samples.every_images=16", "train.validate.every_images=16", "sample.prompts=['nova, 1girl, smile']",
        "sample.steps=2", "evaluate.steps=2", "export.dtype=fp32", f"export.dialects=[{','.join(DIALECTS)}]",
        "~optim.schedule.decay_share=0.3", "~optim.schedule.final=0.0", "optim.schedule.kind=constant",
        "optim.schedule.warmup_images=4",
    ]  # fmt: skip
    for verb in ("catalogue", "shard", "cache"):
        animeflow(verb, *words)
    animeflow("train", *words, "train.images=16")
    animeflow("train", *words, "train.images=32")
    for verb in ("export", "sample", "report"):
        animeflow(verb, *words, "train.images=32")
    yield folder, words


def test_stopped_and_continued_equals_never_stopped(run, animeflow: Callable[..., str]) -> None:
    folder, words = run
    animeflow("train", *words, "train.images=32", f"run={folder}/whole")
    cut, whole = (
        checkpoint.load(checkpoint.newest(folder / n / "checkpoints"), ["learner"])[0] for n in ("run", "whole")
    )
    assert cut["learner"].keys() == whole["learner"].keys()
    assert all(".lora_" in name for name in cut["learner"])
    for name, tensor in whole["learner"].items():
        assert torch.equal(cut["learner"][name], tensor), name
    assert max(float(t.abs().max()) for name, t in whole["learner"].items() if ".lora_B." in name) > 0


def test_every_file_gives_back_what_was_trained(run) -> None:
    folder, words = run
    fam, _ = trained_family(compose_run([*words, "train.images=32"]))
    trained = lora_state(fam.backbone(), fam)
    record = files.read_json(folder / "run" / "export" / "record.json")
    assert set(record["dialects"]) == set(DIALECTS)
    for dialect in DIALECTS:
        found = read_lora(folder / "run" / "export" / record["dialects"][dialect]["file"])
        assert (found.family, found.state.keys()) == (fam.name, trained.keys())
        for name, addition in trained.items():
            torch.testing.assert_close(found.state[name].delta(), addition.delta(), rtol=1e-6, atol=1e-9, msg=name)
    assert "nova" in json.dumps(read_lora(folder / "run" / "export" / "nova.safetensors").metadata)


def test_the_file_on_the_base_draws_what_the_run_draws(run, animeflow: Callable[..., str]) -> None:
    folder, words = run
    lora = folder / "run" / "export" / "nova.safetensors"
    placed = [
        word
        for word in words
        if word.startswith(("experiment", "set=", "run=", "model", "sample", "name", "train.threads"))
    ]
    animeflow("sample", *placed, f"sample.source={tiny_base(words[0].split('=')[1].split('_')[0])}",
              f"sample.loras={lora}", f"sample.out={folder}/added")  # fmt: skip
    ours, theirs = (folder / "run" / "pictures" / "000_0.png", folder / "added" / "000_0.png")
    a, b = (decode(path.read_bytes()).pixels.astype(int) for path in (ours, theirs))
    assert np.abs(a - b).max() <= 1
    assert read_recipe(theirs)["weights"]["loras"][0]["file"] == "nova.safetensors"
    animeflow("sample", *placed, f"sample.source={tiny_base(words[0].split('=')[1].split('_')[0])}",
              f"sample.out={folder}/plain")  # fmt: skip
    plain = decode((folder / "plain" / "000_0.png").read_bytes()).pixels.astype(int)
    assert np.abs(a - plain).max() > 8


def test_a_base_that_changed_is_refused(run, animeflow: Callable[..., str], tmp_path: Path) -> None:
    _, words = run
    other = tmp_path / "base"
    shutil.copytree(tiny_base(words[0].split("=")[1].split("_")[0]), other)
    [file] = (other / "transformer").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    moved = [word for word in words if not word.startswith("model.weights")]
    text = animeflow("export", *moved, "train.images=32", f"model.weights={other}", code=2)
    assert "not the one that this LoRA was trained on" in text


@pytest.mark.parametrize("held", ["bf16", "nf4"])
def test_a_base_in_fewer_bits_trains_goes_on_and_draws(run, held: str, animeflow: Callable[..., str]) -> None:
    folder, words = run
    words = [*words, "train.precision=bf16", f"learn.base_dtype={held}", "learn.dropout=0.1", "sample.prompts=[nova]"]
    for name, stops in (("cut", (16, 24)), ("whole", (24,))):
        for images in stops:
            animeflow(
                "train", *words, f"run={folder}/{held}_{name}", f"train.images={images}", "train.samples.every_images=0"
            )
    cut, whole = (
        checkpoint.load(checkpoint.newest(folder / f"{held}_{name}" / "checkpoints"), ["learner"])[0]["learner"]
        for name in ("cut", "whole")
    )
    assert all(torch.equal(cut[name], tensor) for name, tensor in whole.items())
    words += [f"run={folder}/{held}_whole", "train.images=24"]
    animeflow("sample", *words)
    picture = decode((folder / f"{held}_whole" / "pictures" / "000_0.png").read_bytes()).pixels
    assert picture.std() > 5
    text = animeflow("export", *words, "learn.alpha=4", code=2)
    assert "learn.alpha" in text


def test_it_goes_on_from_its_own_copy_of_the_file_it_began_with(
    run, animeflow: Callable[..., str], tmp_path: Path
) -> None:
    folder, words = run
    start, place = tmp_path / "start.safetensors", f"run={tmp_path}/run"
    shutil.copy(folder / "run" / "export" / "nova.safetensors", start)
    before = read_lora(start).state
    words = [*words, f"learn.start={start}", place, "train.samples.every_images=0"]
    animeflow("train", *words, "train.images=8")
    start.unlink()
    animeflow("train", *words, "train.images=16")
    animeflow("export", *words, "train.images=16")
    after = read_lora(tmp_path / "run" / "export" / "nova.safetensors").state
    assert after.keys() == before.keys()
    name = max(before, key=lambda each: float(before[each].delta().norm()))
    moved = (after[name].delta() - before[name].delta()).norm() / before[name].delta().norm()
    assert 0 < moved < 1, "it began anew"
