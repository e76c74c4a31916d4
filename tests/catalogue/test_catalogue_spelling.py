"""A name's accents may be signs of their own (as a Mac's archives have them) or not: picture and sidecar find each other."""

from __future__ import annotations

import itertools
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from animeflow.catalogue.candidate import Candidate
from animeflow.catalogue.files import Files
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.sources.gallery_dl import GalleryDlSource
from animeflow.catalogue.sources.hydrus import HydrusSource
from animeflow.catalogue.sources.imagefolder import ImageFolderSource
from animeflow.image.encode import encode_png

NAME = "がぎぐ é"
SPELLINGS = list(itertools.product(("NFC", "NFD"), repeat=2))


def put(folder: Path, picture: str, sidecar: str, suffix: str, text: str) -> list[Candidate]:
    (folder / f"{picture}.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    (folder / f"{sidecar}{suffix}").write_text(text)
    source = {".txt": FolderSource, ".caption": FolderSource, ".png.txt": HydrusSource, ".png.json": GalleryDlSource}
    return list(source[suffix](folder))


@pytest.mark.parametrize("suffix", [".txt", ".caption", ".png.txt", ".png.json"])
@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_sidecars_join(tmp_path: Path, suffix: str, one: str, other: str):
    post = json.dumps({"category": "danbooru", "id": 1, "tags": "hat", "tag_string_general": "hat", "rating": "g"})
    text = {".caption": "She has a hat, and is sitting.", ".png.json": post}.get(suffix, "hat")
    names = [unicodedata.normalize(form, NAME) for form in (one, other)]
    found = put(tmp_path, *names, suffix, text)
    assert [(each.path.name, each.reason) for each in found] == [(f"{names[0]}.png", None)]
    assert found[0].facts.tags["general"] == ["hat"] or found[0].facts.captions == {"en": text}


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_a_table_names_its_picture(tmp_path: Path, one: str, other: str):
    names = [unicodedata.normalize(form, NAME) for form in (one, other)]
    (tmp_path / f"{names[0]}.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": f"{names[1]}.png", "tags": "hat"}) + "\n")
    assert [(each.path.name, each.reason) for each in ImageFolderSource(tmp_path)] == [(f"{names[0]}.png", None)]


def test_where_both_spellings_are_there_each_has_its_own(tmp_path: Path):
    for form in ("NFC", "NFD"):
        put(tmp_path, *[unicodedata.normalize(form, NAME)] * 2, ".txt", f"{form} tag")
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this disk takes both names for one")
    found = {each.path.stem: each.facts.tags["general"] for each in FolderSource(tmp_path)}
    assert found == {unicodedata.normalize(form, NAME): [f"{form.lower()}_tag"] for form in ("NFC", "NFD")}


def test_others_are_not_mistaken(tmp_path: Path):
    files = Files(tmp_path, [tmp_path / "e.png", tmp_path / unicodedata.normalize("NFD", "é.png")])
    assert files.spelled(tmp_path / "é.png") == files[1] and files.spelled(tmp_path / "e.png") == files[0]
    assert files.spelled(tmp_path / "è.png") is None and files.spelled(tmp_path / "a.png") is None
    assert files.spelled(tmp_path.parent / "é.png") is None
    assert Files(tmp_path, [tmp_path / "e.png"]).spelled(tmp_path / "é.png") is None
