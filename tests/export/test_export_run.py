"""One export: all of it or nothing, read back, hashed, and the same twice."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from animeflow.core.errors import ConfigError, DataError
from animeflow.core.files import read_json, sha256, sha256_file
from animeflow.export.export import export
from animeflow.export.metadata import header
from animeflow.export.record import RunRecord
from animeflow.model.tensor_file import read_metadata

RECORD = RunRecord(
    name="toon",
    family="sd35",
    flavour="tiny",
    date="2026-03-04T05:06:07+00:00",
    resolution="512x384",
    images_seen=12345,
    ema={"decay_images": 500},
    config_hash="c0ffee",
    data={"catalogue_hash": "ca7a", "manifest_hash": "5ad"},
    git_commit="abc123",
    versions={"torch": "2.13.0"},
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_every_file_is_listed_with_its_hash(family, state, tmp_path):
    report = export(family, state, tmp_path / "out", layouts=list(family.layouts()), dtype="bf16", record=RECORD)
    listed = {file["path"]: file for file in read_json(tmp_path / "out" / "manifest.json")["files"]}
    found = files_of(tmp_path / "out")
    assert listed.keys() == found.keys() - {"manifest.json"} == {file["path"] for file in report.files}
    assert all(
        sha256(found[name]) == fact["sha256"] and len(found[name]) == fact["bytes"] for name, fact in listed.items()
    )
    assert RunRecord.load(tmp_path / "out" / "record.json") == report.record
    card = found["README.md"].decode()
    weights = [fact for name, fact in listed.items() if name.endswith(".safetensors")]
    assert weights and all(fact["sha256"] in card for fact in weights)


def test_the_card_says_where_each_layout_goes_and_how_it_loads(family, state, tmp_path):
    report = export(family, state, tmp_path / "out", layouts=list(family.layouts()), record=RECORD)
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'pipe = StableDiffusion3Pipeline.from_pretrained("diffusers")\n```' in card
    assert (
        "| single_file | `ComfyUI/models/checkpoints` |\n| diffusion_only | `ComfyUI/models/diffusion_models` |" in card
    )
    assert read_json(tmp_path / "out" / "manifest.json")["places"] == report.record.places
    assert list(report.record.places) == list(family.layouts())


def test_the_same_export_twice_is_the_same_bytes(family, state, tmp_path):
    for name in ("one", "two"):
        export(family, state, tmp_path / name, layouts=["diffusers", "single_file"], record=RECORD)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_header_says_what_it_is_and_where_it_comes_from(family, state, tmp_path):
    export(family, state, tmp_path / "out", layouts=["single_file"], dtype="fp16", record=RECORD, name="toon v1.0")
    file = tmp_path / "out" / "single_file" / "toon v1.0.safetensors"
    found = read_metadata(file)
    content = file.read_bytes()
    tensors = content[8 + int.from_bytes(content[:8], "little") :]
    assert found.pop("modelspec.hash_sha256") == "0x" + sha256(tensors)
    assert found == {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-3.5-tiny",
        "modelspec.implementation": "https://github.com/Stability-AI/sd3.5",
        "modelspec.title": "toon",
        "modelspec.resolution": "512x384",
        "modelspec.date": "2026-03-04T05:06:07+00:00",
        "modelspec.prediction_type": "velocity",
        "animeflow.run": "toon",
        "animeflow.family": "sd35",
        "animeflow.flavour": "tiny",
        "animeflow.images_seen": "12345",
        "animeflow.ema": '{"decay_images": 500}',
        "animeflow.config_hash": "c0ffee",
        "animeflow.catalogue_hash": "ca7a",
        "animeflow.manifest_hash": "5ad",
        "animeflow.git_commit": "abc123",
        "animeflow.versions": '{"torch": "2.13.0"}',
    }


def test_modelspec_describes_the_backbone_only(family, state, tmp_path):
    export(family, state, tmp_path / "out", layouts=["diffusers", "text_encoders"], record=RECORD)
    for file in (tmp_path / "out").rglob("*.safetensors"):
        found = read_metadata(file)
        spec = any(key.startswith("modelspec.") for key in found)
        assert spec == (file.parent.name == "transformer")
        assert found["format"] == "pt" and found["animeflow.run"] == "toon"


def test_a_record_without_a_date_gets_one():
    assert header(RunRecord(), layout="diffusers")["modelspec.date"].startswith("20")


def test_an_empty_record_is_enough(family, state, tmp_path):
    report = export(family, state, tmp_path / "out", layouts=["diffusion_only"], record=RunRecord())
    assert report.record.name == "sd35-tiny" and report.record.family == "sd35" and report.record.dtype == "bf16"
    assert (tmp_path / "out" / "diffusion_only" / "sd35-tiny.safetensors").is_file()


def test_a_failed_export_leaves_the_old_one_and_nothing_else(family, state, tmp_path):
    export(family, state, tmp_path / "out", layouts=["diffusion_only"], record=RECORD)
    before = files_of(tmp_path)
    broken = dict(state) | {"proj_out.bias": torch.full_like(state["proj_out.bias"], torch.inf)}
    with pytest.raises(DataError, match=r"final_layer\.linear\.bias"):
        export(family, broken, tmp_path / "out", layouts=["text_encoders", "diffusion_only"], record=RECORD)
    assert files_of(tmp_path) == before
    export(family, state, tmp_path / "out", layouts=["text_encoders"], record=RECORD)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "text_encoders",
        "README.md",
        "record.json",
        "manifest.json",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_something_else_is_never_replaced(family, state, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no earlier export"):
        export(family, state, tmp_path, layouts=["diffusion_only"], record=RECORD)
    assert (tmp_path / "precious.txt").read_text() == "mine"


class Forgetful:
    """Wraps a layout and spoils what it wrote, as a broken disk or a wrong key map would."""

    has_backbone, place, example = True, "", ""

    def __init__(self, layout, spoil) -> None:
        self.layout, self.name, self.spoil = layout, layout.name, spoil

    def write(self, *arguments, **options):
        files = self.layout.write(*arguments, **options)
        tensors = load_file(files[0])
        self.spoil(tensors)
        save_file(tensors, files[0])
        return files

    def read(self, path):
        return self.layout.read(path)

    def notes(self):
        return []


class Spoiled:
    """The family with one layout spoiled."""

    def __init__(self, family, spoil) -> None:
        self.name, self.flavour, self.model_spec = family.name, family.flavour, family.model_spec
        self.layout = Forgetful(family.layouts()["diffusion_only"], spoil)

    def layouts(self):
        return {"diffusion_only": self.layout}


def flip(tensors):
    tensors["model.diffusion_model.pos_embed"][0, 0, 0] += 1


def forget(tensors):
    del tensors["model.diffusion_model.final_layer.linear.bias"]


def add(tensors):
    tensors["model.diffusion_model.more"] = torch.zeros(1)


@pytest.mark.parametrize("spoil, told", [(flip, "1 differ"), (forget, "1 missing"), (add, "1 unknown")])
def test_what_was_not_written_right_is_no_export(family, state, tmp_path, spoil, told):
    with pytest.raises(DataError, match=told):
        export(Spoiled(family, spoil), state, tmp_path / "out", layouts=["diffusion_only"], dtype="fp32", record=RECORD)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options, told",
    [
        ({"layouts": ["single_fil"]}, r"no layout 'single_fil' \(did you mean 'single_file'\?\)"),
        ({"layouts": []}, "no layout chosen"),
        ({"dtype": "bf8"}, r"unknown dtype 'bf8' \(did you mean 'bf16'\?\)"),
        ({"name": "../escape"}, "cannot name a file"),
        ({"name": ".hidden"}, "cannot name a file"),
    ],
)
def test_impossible_settings_are_told_before_anything_is_written(family, state, tmp_path, options, told):
    with pytest.raises(ConfigError, match=told):
        export(family, state, tmp_path / "out", **({"record": RECORD} | options))
    assert not list(tmp_path.iterdir())


def test_an_export_goes_on_as_weights(family, state, tmp_path):
    """What was exported in fp32 is trained on bit for bit, from the folder and from the single file."""
    export(family, state, tmp_path / "out", layouts=["diffusers", "single_file"], dtype="fp32", record=RECORD)
    for path in ("diffusers", "single_file/toon.safetensors"):
        again = type(family)("tiny", weights=tmp_path / "out" / path).backbone().export_state()
        assert again.keys() == state.keys() and all(torch.equal(again[name], state[name]) for name in state)


def test_weights_are_found_in_every_layout_and_in_a_whole_export(family, state, tmp_path):
    """What brings most parts is taken first; where codec and encoders lie with the weights, no other ones are."""
    out, kind = tmp_path / "out", type(family)
    export(family, state, out, layouts=list(family.layouts()), dtype="fp32", record=RECORD)
    assert kind.weights_at(out) == {"weights": str(out / "diffusers"), "codec": None, "text": None}
    for name, layout in family.layouts().items():
        if layout.has_backbone:
            again = kind("tiny", **kind.weights_at(out / name)).backbone().export_state()
            assert all(torch.equal(again[key], state[key]) for key in state), name
    shutil.rmtree(out / "diffusers")
    assert kind.weights_at(out) == {"weights": str(out / "single_file" / "toon.safetensors")}
    for nothing, number in ((out / "text_encoders" / "empty", 0), (out / "text_encoders", 3)):
        nothing.mkdir(exist_ok=True)
        with pytest.raises(ConfigError, match=f"found {number} model files"):
            kind.weights_at(nothing)


def test_record_goes_to_json_and_back(tmp_path):
    full = RunRecord(**{field.name: 1 for field in dataclasses.fields(RunRecord)})
    for record in (RECORD, RunRecord(), full):
        assert RunRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
        record.save(tmp_path / "record.json")
        assert RunRecord.load(tmp_path / "record.json") == record
    with pytest.raises(DataError, match=r"no field 'image_seen' \(did you mean 'images_seen'\?\)"):
        RunRecord.from_json({"image_seen": 1})


def test_hashes_are_of_the_files_themselves(family, state, tmp_path):
    report = export(family, state, tmp_path / "out", layouts=["diffusion_only"], record=RECORD)
    assert all(sha256_file(report.folder / file["path"]) == file["sha256"] for file in report.files)
    assert report.bytes == sum((report.folder / file["path"]).stat().st_size for file in report.files)
