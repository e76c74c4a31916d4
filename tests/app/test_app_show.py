"""`animeflow show` says what a thing is: every kind of file and folder that the house writes, and those of others; it opens no
pickle and says what is broken."""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from animeflow.app.averaged import write_average
from animeflow.app.bases import tiny_base
from animeflow.app.cli import main
from animeflow.app.show import page
from animeflow.app.show.header import read_header
from animeflow.core.errors import DataError
from animeflow.learn.files import write_lora
from animeflow.model import registry
from animeflow.model.low_rank import LowRank
from animeflow.train import checkpoint

FAMILIES = registry.names()


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["show", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def told(path: object) -> dict:
    code, said = call(path, "--json")
    assert code == 0, said
    return json.loads(said[said.index("{\n") :])


def low_ranks(family: str) -> dict[str, LowRank]:
    layers = registry.constructor(family)("tiny")
    outline = layers.outline()
    weights = outline.export_state()
    names = [name for name in layers.lora_layers(outline) if "blocks.1" in name and ".to_" in name]
    return {
        name: LowRank(
            torch.ones(4, weights[f"{name}.weight"].shape[1]), torch.ones(weights[f"{name}.weight"].shape[0], 4), 2.0
        )
        for name in names
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_says_for_what_and_how_strong_in_every_dialect(family, tmp_path):
    state = low_ranks(family)
    for name, dialect in registry.constructor(family).dialects().items():
        path = tmp_path / (f"a_{name}" + ("" if name == "peft" else ".safetensors"))
        words = {"animeflow.trigger": "eileen"} if name != "peft" else {}
        write_lora(path, state, family=family, dialect=name, dtype=torch.bfloat16, metadata=words)
        found = told(path)
        assert found["what"] == f"a LoRA for {family}"
        facts = found["facts"]
        assert (facts["family"], facts["names"]) == (family, name)
        assert facts["read by"] == ", ".join(dialect.readers)
        # Where alpha is folded into B, the file says nothing of it any more.
        assert facts["scale"].startswith("0.5 (alpha" if name != "diffusers" else "1 (no alpha")
        assert facts.get("trigger") == words.get("animeflow.trigger")
        assert any("lora convert" in hint for hint in found["hints"])
    trained = {"ss_seed": "3", "ss_unet_lr": "0.1", "ss_steps": "9"}
    for merged, shown in (({}, True), ({"animeflow.merged": "1 x a + 1 x b"}, False)):
        save_file(load_file(tmp_path / "a_kohya.safetensors"), tmp_path / "m.safetensors", metadata=trained | merged)
        facts = told(tmp_path / "m.safetensors")["facts"]
        assert all((fact in facts) is shown for fact in ("seed", "learning rate", "steps"))


def test_a_lora_of_another_network_and_of_another_kind(tmp_path):
    pair = {f"lora_unet_double_blocks_0_img_attn_qkv.lora_{half}.weight": torch.zeros(4, 4) for half in ("down", "up")}
    save_file(pair, tmp_path / "flux.safetensors")
    found = told(tmp_path / "flux.safetensors")
    assert "no family here" in found["what"] and "FLUX" in found["what"]
    save_file({"lora_unet_x.lokr_w1": torch.zeros(2, 2)}, tmp_path / "lokr.safetensors")
    assert "LoKr" in told(tmp_path / "lokr.safetensors")["what"]


HOSTILE = ("{oops", f"[{'9' * 5000}]", "{" * 100_000, '{"a":' * 500 + "1" + "}" * 500, '["\\ud800"]', "[[1]]",
           '{"lora_alpha": 1' + "0" * 400 + "}", '{"lora_alpha": 1, "alpha_pattern": [1], "r": "x"}')  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_words_of_strangers_are_shown_without_a_traceback(tmp_path, text):
    state = low_ranks(FAMILIES[0])
    path, folder = tmp_path / "a.safetensors", tmp_path / "peft"
    keys = ("animeflow.changes", "ss_tag_frequency", "lora_adapter_metadata", "animeflow.recipe", "software")
    write_lora(path, state, family=FAMILIES[0], dialect="diffusers", dtype=torch.float32, metadata={})
    save_file(load_file(path), path, metadata=dict.fromkeys(keys, text))
    assert told(path)["what"].startswith("a LoRA") and call(path)[0] == 0
    save_file({"w": torch.ones(3)}, tmp_path / "average.safetensors", metadata={"animeflow.average": text})
    assert "averaged" in told(tmp_path / "average.safetensors")["what"]
    write_lora(folder, state, family=FAMILIES[0], dialect="peft", dtype=torch.float32, metadata={})
    (folder / "adapter_config.json").write_text(text)
    whole = text.startswith('{"lora')
    assert call(folder)[0] == (0 if whole else 2)


def test_a_header_that_cannot_be_printed_is_a_broken_file(tmp_path):
    for header in (b"[" * 100_000, rb'{"__metadata__": {"modelspec.title": "\ud800"}}'):
        path = tmp_path / "x.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(DataError, match="no JSON of tensors"):
            read_header(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_and_its_parts(family, tmp_path):
    base = tiny_base(family)
    assert "an export" in told(base)["what"]
    bare = tmp_path / "pipeline"
    shutil.copytree(base, bare)
    for name in ("manifest.json", "record.json", "README.md"):
        (bare / name).unlink()
    assert told(bare)["what"] == f"a model: {family}, tiny, as a pipeline of diffusers"
    assert "an autoencoder" in told(next((base / "vae").glob("*.safetensors")))["what"]
    assert told(next((base / "transformer").glob("*.safetensors")))["facts"]["class"]


def test_a_model_in_one_file_says_its_parts(tmp_path):
    family = registry.constructor(FAMILIES[-1])("tiny")
    layout = family.layouts()["diffusion_only"]
    layout.write(
        family.backbone().export_state(), tmp_path, dtype=torch.float32, metadata={"modelspec.title": "mine"}, stem="m"
    )
    found = told(tmp_path / "m.safetensors")
    assert found["what"].startswith(f"a model: {family.name}, tiny") and "alone" in found["what"]
    assert found["facts"]["title"] == "mine" and found["facts"]["numbers"].replace(",", "").isdigit()


def test_averages_checkpoints_and_runs(tmp_path):
    run = tmp_path / "run"
    folder = checkpoint.Checkpoints(run / "checkpoints", keep_last=None).save(
        120, {"learner": {"w": torch.ones(3)}}, {"progress": {"images_seen": 120, "step": 30}}
    )
    found = told(folder)
    assert (
        "a checkpoint" in found["what"] and found["facts"]["images seen"] == 120 and "whole" in found["facts"]["state"]
    )
    assert "part of a checkpoint" in told(next(folder.glob("*.safetensors")))["what"]
    (run / "config.json").write_text(json.dumps({"name": "mine", "model": {"family": "f", "flavour": "g"}}))
    found = told(run)
    assert "animeflow train name=mine" in found["hints"]
    (run / "lora.words").write_text("name=mine")
    assert told(run)["hints"][0] == f"animeflow train @{run}/lora.words"
    assert found["what"] == "a run" and found["facts"]["name"] == "mine" and found["facts"]["model"] == "f g"
    assert "newest at 120" in found["facts"]["checkpoints"]
    write_average(
        tmp_path / "a.safetensors", {"w": torch.ones(3)}, {"run": "mine", "images_seen": 120, "sigma_rel": 0.07}
    )
    found = told(tmp_path / "a.safetensors")
    assert "averaged weights" in found["what"] and found["facts"]["run"] == "mine" and found["facts"]["width"] == 0.07
    next(folder.glob("*.safetensors")).write_bytes(b"cut")
    assert "broken" in told(folder)["facts"]["state"]


def test_a_set_and_its_parts(tmp_path):
    words = ["experiment=toonworld_tiny", f"set={tmp_path / 'set'}", "toonworld.count=6"]
    for verb in ("toonworld", "catalogue", "shard"):
        made = CliRunner().invoke(main, [verb, *words])
        assert made.exit_code == 0, made.output
    place = tmp_path / "set"
    assert told(place)["what"].startswith("a set")
    found = told(place / "catalogue")
    assert "a catalogue" in found["what"] and found["facts"]["posts"] == 6
    found = told(place / "shards")
    assert found["facts"]["pictures"] == 6 and sum(found["facts"]["buckets"].values()) == 6
    tar = next(place.rglob("*.tar"))
    found = told(tar)
    assert "a shard" in found["what"] and found["facts"]["samples"] >= 1
    assert told(place / "pictures")["facts"]["pictures"] == 6
    tar.write_bytes(tar.read_bytes()[:700])
    code, said = call(tar)
    assert code == 2 and "no whole tar file" in said


def test_a_folder_of_pictures(tmp_path):
    for name in ("a.png", "b.jpg", "a.txt"):
        (tmp_path / name).write_bytes(b"x")
    facts = told(tmp_path)["facts"]
    assert (facts["pictures"], facts["with a caption beside them"]) == (2, 1)


class Trap:
    """A pickle that would leave a trace if anybody opened it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["a.ckpt", "a.pt", "a.safetensors", "a.bin", "a.unknown"])
@pytest.mark.parametrize("form", ["zip", "stream"])
def test_no_pickle_is_opened(name, form, tmp_path):
    mark = tmp_path / "mark"
    if form == "zip":
        torch.save({"a": Trap(mark)}, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(Trap(mark)))
    code, said = call(tmp_path / name)
    assert code == 2 and "pickle" in said and "why:" in said and not mark.exists()


def test_broken_files_and_empty_folders(tmp_path):
    whole = BytesIO()
    save_file({"a": torch.ones(9)}, tmp_path / "w.safetensors")
    data = (tmp_path / "w.safetensors").read_bytes()
    for cut in (0, 5, 20, len(data) - 4):
        (tmp_path / "cut.safetensors").write_bytes(data[:cut])
        code, said = call(tmp_path / "cut.safetensors")
        assert code == 2 and "no whole safetensors file" in said, said
    for bad in (b'{"a": 3}', b"[1, 2]   ", b'{"a": {"dtype": "F32"}}'):
        (tmp_path / "cut.safetensors").write_bytes(len(bad).to_bytes(8, "little") + bad)
        assert call(tmp_path / "cut.safetensors")[0] == 2
    (tmp_path / "empty").mkdir()
    assert "it is empty" in call(tmp_path / "empty")[1]
    assert "did you mean 'w.safetensors'" in call(tmp_path / "v.safetensors")[1]
    with tarfile.open(fileobj=whole, mode="w"):
        pass
    (tmp_path / "none.tar").write_bytes(whole.getvalue())
    assert told(tmp_path / "none.tar")["facts"]["samples"] == 0


def test_the_header_is_enough(tmp_path, monkeypatch):
    save_file(
        {"x.0.y": torch.ones(2, 3), "x.1.y": torch.ones(4).half()}, tmp_path / "a.safetensors", metadata={"a": "b"}
    )
    header = read_header(tmp_path / "a.safetensors")
    assert header.tensors["x.0.y"].shape == (2, 3) and header.parameters == 10 and header.metadata == {"a": "b"}
    assert header.dtypes() == {"F32": 1, "F16": 1} and header.tensors["x.1.y"].bytes == 8
    monkeypatch.setattr("safetensors.torch.load_file", None)
    found = told(tmp_path / "a.safetensors")
    assert "not known" in found["what"] and "x.#.y (2)" in found["facts"]["keys"]


def test_words_of_a_page():
    assert [page.size(n) for n in (17, 1500, 2_340_000, 123_000_000, 4_200_000_000)] == [
        "17 bytes", "1.5 kB", "2.3 MB", "123 MB", "4.20 GB",
    ]  # fmt: skip
    assert page.words({"a": 1, "b": None, "c": [True, 0.5]}) == "a 1, c yes, 0.5"
    assert page.count(1, "layer") == "1 layer" and page.count(2000, "layer") == "2,000 layers"
