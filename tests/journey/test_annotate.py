"""`annotate tagger` and `shard`: what a tagger says is kept beside the catalogue, and comes into the tags that nobody wrote."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from animeflow.catalogue.table import Catalogue
from animeflow.image.encode import encode_png

sys.path.insert(0, str(Path(__file__).parents[1] / "annotate"))
from test_annotate_tagger import mean_of_channels


def facts_of(folder: Path) -> dict[str, dict]:
    """Facts of every sample, by the name of its picture's colour (the first tag is what a person or tagger says)."""
    found = {}
    for tar in folder.rglob("*.tar"):
        with tarfile.open(tar) as archive:
            for member in archive:
                if member.name.endswith(".json"):
                    facts = json.loads(archive.extractfile(member).read())
                    found[facts["sha256"]] = facts
    return found


def test_a_tagger_fills_what_nobody_wrote(tmp_path: Path, animeflow: Callable[..., str]):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, colour in (("red", (255, 0, 0)), ("green", (0, 255, 0)), ("hers", (255, 10, 0))):
        (pictures / f"{name}.png").write_bytes(encode_png(np.full((64, 64, 3), colour, np.uint8)))
    (pictures / "hers.txt").write_text("a tag of hers")
    tagger = mean_of_channels(tmp_path / "means", channels_last=False)
    words = [
        "name=tagged",
        f"set={tmp_path / 'set'}",
        "catalogue=folder",
        f"catalogue.root={pictures}",
        "catalogue.workers=0",
    ]
    words += ["data.shard.workers=0", "data/bucket=tiny", "data.shard.max_upscale=8"]
    told = animeflow("shard", *words, "annotate.merge.use=[means]", code=2) if animeflow("catalogue", *words) else ""
    assert "no tagger 'means' was asked" in told
    assert "labels" in animeflow("annotate", "tagger", *words, f"annotate.tagger.path={tagger}")
    again = animeflow("annotate", "tagger", *words, f"annotate.tagger.path={tagger}")
    assert "0 pictures asked about, 3 known" in again
    animeflow("shard", *words, "annotate.merge.use=[means]", "annotate.merge.thresholds.character=0.9")
    recorded = json.loads((tmp_path / "set" / "shards" / "manifest.json").read_text())["config"]["annotate"]
    assert list(recorded["use"]) == ["means"] and recorded["use"]["means"] and recorded["agree"] == 1
    catalogue = Catalogue(tmp_path / "set" / "catalogue")
    names = {post.sha256: Path(post.path).stem for post in catalogue.posts()}
    tags = {names[sha]: facts["tags"] for sha, facts in facts_of(tmp_path / "set" / "shards").items()}
    assert tags["red"]["general"] == ["red_thing"] and tags["red"]["character"] == []
    assert tags["green"]["general"] == [] and tags["green"]["character"] == ["green"]
    assert tags["hers"]["general"] == ["a_tag_of_hers"]
    assert "explicit" not in json.dumps(tags)  # a rating is no tag


def test_masks_and_detectors_that_are_not_there_are_told(tmp_path: Path, animeflow: Callable[..., str]):
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((64, 64, 3), np.uint8)))
    words = [
        "name=alone",
        f"set={tmp_path / 'set'}",
        "catalogue=folder",
        f"catalogue.root={tmp_path}",
        "catalogue.workers=0",
    ]
    assert "run 'animeflow catalogue' first" in animeflow("annotate", "masks", *words, code=2)
    animeflow("catalogue", *words)
    assert "annotate.masks.path" in animeflow("annotate", "masks", *words, code=2)
    assert "annotate.tagger.path" in animeflow("annotate", "tagger", *words, code=2)
    assert "both have to be 20" in animeflow("annotate", "detector", *words, code=2)
