"""A family that the house has never heard of keeps the contract and goes the whole path: all it needs is its folder and config."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import animeflow
import animeflow.model
from animeflow.app import compose as compose_module
from animeflow.app.compose import compose, config_folder
from animeflow.app.verbs import cache, demo
from animeflow.core.errors import ConfigError
from animeflow.core.files import read_json
from animeflow.evaluate.run_folder import read_run
from animeflow.model import registry
from animeflow.train import checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from contract import FamilyContract

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def toy_moves_in():
    """The folder beside this file is a folder of `animeflow.model` while these tests run."""
    animeflow.model.__path__.append(str(HERE))
    yield
    animeflow.model.__path__.remove(str(HERE))
    for name in [
        name for name in sys.modules if name.startswith("animeflow.model.toy.") or name == "animeflow.model.toy"
    ]:
        del sys.modules[name]


class TestToy(FamilyContract):
    @classmethod
    def build(cls):
        return registry.constructor("toy")("tiny")


def test_it_is_found_by_its_folder_alone():
    assert "toy" in registry.names()
    assert registry.cell("toy") == 4
    family = registry.constructor("toy")()
    assert family.name == "toy"
    assert family.codec().stride * family.patch == registry.cell("toy")
    with pytest.raises(ConfigError, match=r"unknown family 'toyy' \(did you mean 'toy'\?\)"):
        registry.constructor("toyy")


@pytest.mark.parametrize("name", registry.names())
def test_the_token_of_every_family_is_what_its_package_says(name):
    family = registry.constructor(name)("tiny")
    assert family.codec().stride * family.patch == registry.cell(name)


def test_the_page_shows_the_very_files_that_are_tested():
    page = (HERE.parents[1] / "docs" / "adding-a-family.md").read_text()
    shown = re.findall(r"^```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    files = {file.name: file.read_text() for file in (HERE / "toy").iterdir() if file.suffix in (".py", ".yaml")}
    assert len(files) == 7
    assert [name for name, text in files.items() if text not in shown] == []
    (contract,) = (block for block in shown if block not in files.values())
    assert contract.strip() in Path(__file__).read_text()


class Checkout:
    """A copy of the house with the toy's folder and its two files of settings in it, and a folder to work in."""

    def __init__(self, root: Path) -> None:
        self.root, self.work = root, root / "work"
        package = Path(animeflow.__file__).parent
        ignore = shutil.ignore_patterns("configs")
        shutil.copytree(package, root / "src" / "animeflow", ignore=ignore)
        shutil.copytree(config_folder(), root / "configs")
        settings = shutil.ignore_patterns("__pycache__", "*.yaml")
        shutil.copytree(HERE / "toy", root / "src" / "animeflow" / "model" / "toy", ignore=settings)
        shutil.copy(HERE / "toy" / "toy.yaml", root / "configs" / "model")
        shutil.copy(HERE / "toy" / "toy_toonworld.yaml", root / "configs" / "experiment")
        self.work.mkdir()

    def animeflow(self, *lines: str) -> str:
        """Run verbs, with their words, one after the other in a process of its own; what they logged."""
        program = "import sys\nfrom animeflow.app.cli import execute\nfor line in sys.argv[1:]:\n"
        program += (
            "    verb, *words = line.split()\n    assert execute(verb, ['experiment=toy_toonworld', *words]) == 0, line"
        )
        environment = {**os.environ, "PYTHONPATH": str(self.root / "src"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program, *lines],
            cwd=self.work, env=environment, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, f"{lines}:\n{done.stdout}\n{done.stderr}"
        return done.stderr


@pytest.mark.slow
def test_its_demo_needs_no_codec_and_no_oracle_and_goes_on_where_it_was(tmp_path, monkeypatch):
    """Only the settings are in the copy here: the family is found by the folder beside this file."""
    house = Checkout(tmp_path)
    for module in (compose_module, demo):
        monkeypatch.setattr(module, "config_folder", lambda: house.root / "configs")
    monkeypatch.chdir(house.work)
    demo.run([], family="toy")
    written = {file: file.read_bytes() for file in (house.work / "runs" / "toy" / "export").rglob("*.safetensors")}
    assert written
    demo.run([], family="toy")
    assert all(file.read_bytes() == content for file, content in written.items())
    assert (house.work / "runs" / "toy" / "report.html").is_file()


@pytest.mark.slow
def test_it_goes_the_whole_path_without_a_touch_outside_its_folder_and_config(tmp_path):
    house = Checkout(tmp_path)
    place, run = house.work / "sets" / "toy", house.work / "runs" / "toy"
    house.animeflow("toonworld", "catalogue", "shard", "cache")
    neighbour = compose(["experiment=toonworld_smoke", f"set={place}", "model.codec=null", "data.cache.variants=1"])
    cache.encode(neighbour)
    assert "film: " in house.animeflow("train")
    house.animeflow("export", "sample sample.source=runs/toy/export sample.out=drawn", "report")

    caches = {folder.name: read_json(next(folder.glob("manifest-*.json"))) for folder in (place / "cache").iterdir()}
    assert caches.keys() == {"toy", neighbour["model"]["family"]}, "two families live side by side over the same shards"
    assert len({manifest["identity"]["shards"] for manifest in caches.values()}) == 1

    tensors, state = checkpoint.load(checkpoint.newest(run / "checkpoints"))
    assert state["progress"]["images_seen"] == 96
    exported = load_file(run / "export" / "one_file" / "toy.safetensors")
    averaged = tensors["learner"] | tensors[state["average"]]
    assert exported.keys() == averaged.keys()
    assert all(torch.equal(exported[name], averaged[name]) for name in averaged)

    record = read_run(run).record
    assert (record["family"], record["text"]["words"]) == ("toy", 40)
    assert "| one_file | beside whatever reads it |" in (run / "export" / "README.md").read_text()
    assert len(list((house.work / "drawn").glob("*.png"))) == 3, "two prompts and the sheet"
    assert "toy" in (run / "report.html").read_text()
