"""`animeflow lora` plans with the pictures that `curate` takes, as the shards will hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from animeflow.app.compose import compose
from animeflow.app.lora import scan
from animeflow.app.lora.choose import Asked, Chosen
from animeflow.app.lora.job import prepare
from animeflow.app.lora.plan import rows
from animeflow.app.verbs import catalogue, decide, shard
from animeflow.core.errors import ConfigError, DataError

SAD = "curate.rules=[{name: sad, drop: \"list_contains(tags.general, 'sad')\", why: only smiles}]"
PARAMETERS = "1boy, smile\nNegative prompt: lowres\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 112x112"


def fill(folder: Path, count: int, *, sad: int = 0, generated: int = 0) -> Path:
    """Pictures of which the first `sad` are, and the last so many bear a generator's text."""
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (112, 112, 3), np.uint8)
        said = PngInfo()
        if i >= count - generated:
            said.add_text("parameters", PARAMETERS)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png", pnginfo=said)
        (folder / f"{i:02d}.txt").write_text("1boy, sad" if i < sad else "1boy, smile")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def chosen(folder: Path, *words: str) -> Chosen:
    return prepare(folder, Asked(tiny=True, words=("catalogue.val_share=0", *words)))


def trained(found: Chosen) -> set[str]:
    return {seen.path.name for seen in found.found.pictures}


def test_the_plan_counts_what_the_shards_hold(here: Path) -> None:
    folder = fill(here / "mio", 12, sad=5)
    assert len(trained(chosen(folder))) == 12
    found = chosen(folder, SAD)
    assert trained(found) == {f"{i:02d}.png" for i in range(5, 12)}
    assert compose(found.words) == found.config
    row = {row.name: row for row in rows(found)}["left out by query"]
    assert row.value == "5 of 12" and "only smiles" in row.why
    assert sorted(path.name for path in here.iterdir()) == ["mio"], "a plan writes nothing"
    catalogue.collect(dict(found.config))
    manifest = shard.cut(dict(found.config))
    assert sum(bucket["samples"] for bucket in manifest.buckets.values()) == 7


def test_who_was_rejected_is_not_planned_with(here: Path) -> None:
    folder = fill(here / "mio", 12, sad=0)
    first = chosen(folder)
    catalogue.collect(dict(first.config))
    words = [f"set={first.config['set']}"]
    decide.run(words, reject=[str(folder / "03.png")], reason="ai", reviewer="ana")
    again = chosen(folder)
    assert trained(first) - trained(again) == {"03.png"}
    Image.fromarray(np.zeros((112, 112, 3), np.uint8)).save(folder / "new.png")
    assert trained(chosen(folder)) == trained(again) | {"new.png"}, "the catalogue does not know it yet"


def test_a_query_that_takes_nothing_or_is_wrong_is_refused_before_anything_is_written(here: Path) -> None:
    folder = fill(here / "mio", 4, sad=4)
    with pytest.raises(DataError, match="none of the 4 pictures of mio"):
        chosen(folder, SAD)
    with pytest.raises(ConfigError):
        chosen(folder, "curate.rules=[{name: x, drop: 'widht < 3', why: w}]")
    assert sorted(path.name for path in here.iterdir()) == ["mio"]


@pytest.mark.parametrize("decoded", [10**9, 0], ids=["decoded", "heads"])
def test_what_a_generator_made_is_left_out_and_the_plan_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, decoded: int
) -> None:
    monkeypatch.setattr(scan.scan, "__kwdefaults__", {**scan.scan.__kwdefaults__, "decoded": decoded})
    folder = fill(here / "mio", 12, generated=3)
    assert {seen.proven for seen in scan.scan(folder).pictures} == {bool(decoded)}
    found = chosen(folder)
    assert trained(found) == {f"{i:02d}.png" for i in range(9)}
    row = {row.name: row for row in rows(found)}["left out as generated"]
    assert row.value == "3 of 12" and row.warns
    assert "AUTOMATIC1111" in row.why and "curate.provenance.ai=allow" in row.why
    assert sorted(path.name for path in here.iterdir()) == ["mio"], "a plan writes nothing"
    allowed = chosen(folder, "curate.provenance.ai=allow")
    assert len(trained(allowed)) == 12 and "left out as generated" not in {row.name for row in rows(allowed)}


def test_a_sidecar_or_a_setting_that_says_so_counts_too(here: Path) -> None:
    folder = fill(here / "mio", 6)
    (folder / "05.txt").write_text("1boy, ai-generated")
    assert trained(chosen(folder)) == {f"{i:02d}.png" for i in range(5)}
    (folder / "04.txt").write_text("1boy, ai-assisted")
    row = {row.name: row for row in rows(chosen(folder))}["left out as generated"]
    assert "ai=allow" in row.why and "ai_assisted=allow" in row.why and row.value == "2 of 6"
    with pytest.raises(DataError, match="none of the 6 pictures"):
        chosen(folder, "+catalogue.source.concepts.mio.origin=ai")


def test_a_folder_of_nothing_else_names_the_way(here: Path) -> None:
    folder = fill(here / "mio", 4, generated=4)
    with pytest.raises(DataError, match="none of the 4 pictures of mio") as caught:
        chosen(folder)
    assert "curate.provenance.ai=allow takes" in str(caught.value) and "AUTOMATIC1111" in str(caught.value)
    fill(here / "rin", 4, generated=3)
    with pytest.raises(DataError, match="one picture of rin, and 3 that the query leaves out") as caught:
        prepare(here / "rin", Asked(tiny=True))
    assert "curate.provenance.ai=allow takes" in str(caught.value)
    assert sorted(path.name for path in here.iterdir()) == ["mio", "rin"]


def test_what_is_required_is_asked_before_anything_is_written(here: Path) -> None:
    folder = fill(here / "mio", 4)
    assert len(trained(chosen(folder))) == 4, "nobody has to vouch for a folder before it is learned from"
    for key, word in (("origin", "unknown origin"), ("licence", "licence"), ("snapshot", "when they were taken")):
        with pytest.raises(DataError, match=f"4 of 4 pictures .*{word}"):
            chosen(folder, f"curate.require.{key}=true")
    with pytest.raises(DataError, match="kept by a person"):
        chosen(folder, "curate.require.reviewed=0.5")
    assert len(trained(chosen(folder, "curate.require.licence=true", "catalogue.licence=CC0"))) == 4
    with pytest.raises(ConfigError, match="did you mean 'certify'"):
        chosen(folder, "curate.require.origin=certfy")
    assert sorted(path.name for path in here.iterdir()) == ["mio"]
