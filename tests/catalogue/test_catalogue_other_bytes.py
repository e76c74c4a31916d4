"""A record whose file has another md5 than it names: taken, for resized sets rely on ids, and counted and listed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from animeflow.catalogue.ingest import BYTES_DIFFER, ingest
from animeflow.catalogue.sources.danbooru import DanbooruSource
from animeflow.catalogue.sources.gallery_dl import GalleryDlSource
from animeflow.catalogue.table import Catalogue
from animeflow.image.encode import encode_png


def drawn(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (24 + seed, 20, 3), dtype=np.uint8))


def post(number: int, md5: str | None) -> dict:
    return {
        "id": number,
        "md5": md5,
        "tag_string": "hat",
        "tag_string_general": "hat",
        "rating": "g",
        "category": "danbooru",
    }


@pytest.fixture(params=["dump", "lines", "beside"])
def source(tmp_path: Path, request: pytest.FixtureRequest):
    """Of five posts one has the md5 of its file, in large letters; two have another one; one names none; one's is found by it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    said = [hashlib.md5(drawn(0)).hexdigest().upper(), "0" * 32, "f" * 32, None]
    for number in range(4):
        (folder / f"danbooru_{number}.png").write_bytes(drawn(number))
    posts = [post(number, md5) for number, md5 in enumerate(said)]
    if request.param == "beside":
        for each in posts:
            (folder / f"danbooru_{each['id']}.png.json").write_text(json.dumps(each))
        return GalleryDlSource(folder)
    lines = "".join(json.dumps(each) + "\n" for each in posts)
    if request.param == "lines":
        (folder / "data.jsonl").write_text(lines)
        return GalleryDlSource(folder)
    (tmp_path / "posts.jsonl").write_text(lines)
    return DanbooruSource(tmp_path / "posts.jsonl", pictures=folder)


def test_it_is_taken_counted_and_listed(tmp_path: Path, source):
    for _ in range(2):  # the second time nothing is decoded
        report = ingest(Catalogue(tmp_path / "set"), source, workers=0)
        assert report.notes[BYTES_DIFFER] == 2 and not report.rejected
        rows = [json.loads(line) for line in (tmp_path / "set" / "noted.jsonl").read_text().splitlines()]
        assert [Path(row["path"]).name for row in rows] == ["danbooru_1.png", "danbooru_2.png"]
        assert rows[0]["reason"] == "bytes_differ" and rows[0]["detail"].endswith("0" * 32)
    assert report.decoded == 0 and len(Catalogue(tmp_path / "set")) == 4
    assert any(BYTES_DIFFER in line for line in report.lines())


def test_a_cache_of_before_is_used_and_says_nothing_of_it(tmp_path: Path, source):
    ingest(Catalogue(tmp_path / "set"), source, workers=0)
    with sqlite3.connect(tmp_path / "set" / "seen.sqlite") as database:
        database.execute("alter table seen drop column md5")
    database.close()
    report = ingest(Catalogue(tmp_path / "set"), source, workers=0)
    assert (report.known, report.decoded, report.notes[BYTES_DIFFER]) == (4, 0, 0)
    assert (tmp_path / "set" / "noted.jsonl").read_text() == ""
