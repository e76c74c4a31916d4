"""The small bases of the package: whole, free of this machine, and models that can draw."""

from __future__ import annotations

import hashlib
import json
import re
import shutil

import pytest
import torch

from animeflow.app import bases
from animeflow.app.source import Export
from animeflow.core import files
from animeflow.core.errors import ConfigError, DataError
from animeflow.evaluate.oracle import Oracle
from animeflow.flow import path
from animeflow.model import registry
from animeflow.sample.generate import generate
from animeflow.toonworld.describe import prompt
from animeflow.toonworld.draw import draw
from animeflow.toonworld.words import ATTRIBUTES
from animeflow.toonworld.world import Scene, sample_scene

FAMILIES = registry.names()
FOREIGN = re.compile(r"(?<![\w.])/(?:tmp|root|home|work|usr|mnt|Users)/|\b(?:localhost|hostname)\b")


def loaded(family):
    place = bases.tiny_base(family)
    make = registry.constructor(family)
    said = Export.at(place).text(make.text_settings)
    return make("tiny", **make.weights_at(place), **said)


@pytest.fixture(scope="module", params=FAMILIES)
def base(request):
    return loaded(request.param)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_is_the_files_that_its_manifest_lists(family):
    place = bases.tiny_base(family)
    listed = {file["path"]: file for file in json.loads((place / "manifest.json").read_text())["files"]}
    there = {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()}
    assert there - set(listed) == {"README.md", "record.json", "manifest.json"} and set(listed) <= there
    for name, fact in listed.items():
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == fact["sha256"], name


def test_no_path_of_a_machine_and_no_large_file_is_in_them():
    for file in bases.folder().rglob("*"):
        if file.is_file():
            assert file.stat().st_size < 10e6, file
            text = (
                file.read_bytes()[:4096].decode("utf-8", "replace")
                if file.suffix == ".safetensors"
                else file.read_text()
            )
            assert not FOREIGN.search(text), file


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_says_what_it_is_and_who_may_use_it(family):
    export = Export.at(bases.tiny_base(family))
    assert (export.record["family"], export.record["flavour"]) == (family, "tiny")
    assert export.record["licence"] == bases.LICENCE
    assert f"model={family}_tiny" in export.words()
    results = bases.figures(family)
    assert results["adherence (mean of attributes, unseen combinations)"] > 2 * results["chance"]


def scenes(count):
    return [sample_scene(991, index, count_weights={1: 1.0}) for index in range(count)]


def velocity_loss(fam, backbone, pictures: list[Scene], *, t: float) -> float:
    """Mean squared error of the velocity at one t for these scenes with their own prompts, noise fixed."""
    pixels = [torch.from_numpy(draw(scene, 96, 96, layers=False).pixels.copy()).permute(2, 0, 1) for scene in pictures]
    x0 = fam.codec().encode(torch.stack(pixels).float() / 127.5 - 1)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
    times = torch.full((len(x0),), t)
    tower = fam.text_tower()
    conditioning = tower.collate(tower.encode([prompt(scene) for scene in pictures]))
    with torch.no_grad():
        v = backbone(path.interpolate(x0, noise, times), times, conditioning)
    return float((v - path.velocity(x0, noise)).square().mean())


def test_a_base_knows_the_drawn_world(base):
    """Its loss on drawn pictures is far below that of random weights,."""
    drawn = scenes(6)
    own = velocity_loss(base, base.backbone().eval(), drawn, t=0.8)
    fresh = registry.constructor(base.name)("tiny", codec=base.codec(), text=base.text_tower()).backbone().eval()
    assert own < 0.75 * velocity_loss(base, fresh, drawn, t=0.8)


def test_a_base_draws_what_is_asked(base):
    """One picture in few steps; the oracle of the package finds most of what was asked in a handful of them."""
    asked = scenes(6)
    samples = generate(
        base, [prompt(scene) for scene in asked], height=96, width=96, seeds=range(len(asked)), pair=True, steps=8, cfg=2.0,
        shift=5.0, batch_size=6,
    )  # fmt: skip
    assert samples[0].pixels.shape == (96, 96, 3)
    readings = Oracle.load(bases.tiny_oracle(), vocabulary=ATTRIBUTES).read([sample.pixels for sample in samples])
    places = ("background", "lighting")
    right = [reading[name][0] == getattr(scene, name) for reading, scene in zip(readings, asked) for name in places]
    assert sum(right) >= 10


def test_a_missing_base_and_a_missing_oracle_are_told(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="unknown family"):
        bases.tiny_base("sd53")
    monkeypatch.setattr(bases, "folder", lambda: tmp_path)
    with pytest.raises(ConfigError, match="no small base of sd35"):
        bases.tiny_base("sd35")
    with pytest.raises(ConfigError, match="oracle"):
        bases.tiny_oracle()


def test_what_is_no_export_is_not_published(tmp_path):
    with pytest.raises(DataError, match="diffusers layout"):
        bases.publish_base(tmp_path, "sd35", into=tmp_path / "out")
    export = tmp_path / "export"
    (export / "diffusers").mkdir(parents=True)
    files.write_json(export / "record.json", {"family": "anima", "flavour": "tiny"})
    with pytest.raises(DataError, match="not sd35"):
        bases.publish_base(export, "sd35", into=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_of_a_small_run_becomes_a_base_again(tmp_path):
    """What lies in the package is published once more from an export's shape and is the same, file by file."""
    place, export = bases.tiny_base("sd35"), tmp_path / "export"
    shutil.copytree(
        place, export / "diffusers", ignore=shutil.ignore_patterns("record.json", "manifest.json", "README.md")
    )
    shutil.copy(place / "record.json", export / "record.json")
    again = bases.publish_base(export, "sd35", into=tmp_path / "out")
    for file in place.rglob("*"):
        if file.is_file():
            assert (again / file.relative_to(place)).read_bytes() == file.read_bytes(), file
