"""What a config says reaches the shards, and a dry run foretells what a real one does."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from data_toys import draw

from animeflow.app.compose import compose
from animeflow.app.verbs.catalogue import collect
from animeflow.app.verbs.shard import cut
from animeflow.image.encode import encode_png

SIZES = {"square": (160, 160), "wide": (128, 256), "panorama": (128, 1040), "small": (70, 70), "tiny": (40, 160)}


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A catalogue of one picture of each size, and the words that lead to it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, (name, (height, width)) in enumerate(SIZES.items()):
        (folder / f"{name}.png").write_bytes(encode_png(draw(number, height, width)))
    words = ["experiment=pictures_tiny", f"catalogue.root={folder}", f"set={tmp_path / 'set'}"]
    words += ["catalogue.workers=0", "data.shard.workers=0"]
    collect(compose(words))
    return words


def reasons(manifest) -> dict[str, str]:
    return {Path(rejection.path).stem: rejection.reason for rejection in manifest.rejected}


def test_a_panorama_is_not_cut_to_its_middle(words: list[str]):
    manifest = cut(compose(words))
    assert reasons(manifest) == {"panorama": "too_cropped", "small": "too_small", "tiny": "too_small"}
    assert (manifest.found, manifest.written) == (5, 2)
    loose = cut(compose([*words, "data.shard.max_crop=1.0"]))
    assert reasons(loose) == {"small": "too_small", "tiny": "too_small"}


def test_limits_of_the_catalogue_are_those_of_the_shards(words: list[str], tmp_path: Path):
    manifest = cut(compose([*words, "catalogue.limits.max_pixels=30000"]))
    assert reasons(manifest)["wide"] == "too_large"
    large = np.zeros((1000, 1000, 3), np.uint8)
    (tmp_path / "pictures/large.png").write_bytes(encode_png(large))
    wide = [*words, "+catalogue.limits.max_side=1000"]
    collect(compose(wide))
    manifest = cut(compose(wide))
    assert manifest.config["shard"]["limits"]["max_side"] == 1000 and "large" not in reasons(manifest)


def test_the_manifest_has_the_config_that_made_it_and_no_place(words: list[str], tmp_path: Path):
    config = compose(words)
    cut(config)
    text = (tmp_path / "set/shards/manifest.json").read_text()
    kept = json.loads(text)["config"]
    assert kept["data"]["bucket"] == config["data"]["bucket"] and kept["data"]["shard"]["max_crop"] == 0.5
    assert kept["catalogue"]["limits"] == config["catalogue"]["limits"]
    assert str(tmp_path) not in json.dumps(kept)
    before = text
    cut(compose([*words, "data.shard.workers=1"]))
    assert (tmp_path / "set/shards/manifest.json").read_text() == before


def test_a_dry_run_foretells_kept_and_rejected(words: list[str], caplog: pytest.LogCaptureFixture):
    config = compose(words)
    with caplog.at_level(logging.INFO, logger="animeflow"):
        assert cut(config, dry_run=True) is None
    dry = [record.getMessage() for record in caplog.records if record.name == "animeflow.app.verbs.shard"]
    caplog.clear()
    assert not (Path(config["set"]) / "shards").exists()
    with caplog.at_level(logging.INFO, logger="animeflow"):
        cut(config)
    real = [record.getMessage() for record in caplog.records if record.name == "animeflow.app.verbs.shard"]
    assert dry[:-1] == real[:-1] and len(dry) == 4
    assert "of unknown origin" in dry[0]
    assert dry[-1] == "5 in = 2 that would be decoded and written + 3 rejected (too_small 2, too_cropped 1)"
    assert real[-1] == dry[-1].replace("that would be decoded and written", "written")
