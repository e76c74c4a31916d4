"""`animeflow lora` plans with the pictures that `curate` takes, as the shards will hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animeflow.app.compose import compose
from animeflow.app.lora.choose import Asked, Chosen
from animeflow.app.lora.job import prepare
from animeflow.app.lora.plan import rows
from animeflow.app.verbs import catalogue, decide, shard
from animeflow.core.errors import ConfigError, DataError

SAD = "curate.rules=[{name: sad, drop: \"list_contains(tags.general, 'sad')\", why: only smiles}]"


def fill(folder: Path, count: int, *, sad: int) -> Path:
    """Pictures of which the first `sad` are."""
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (112, 112, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
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
