"""Words of sites that name no categories stand where the database of tags has them; nothing else is moved."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animeflow.app.compose import compose
from animeflow.app.verbs.catalogue import collect
from animeflow.catalogue.candidate import Candidate, Facts
from animeflow.catalogue.sources.booru import read_post
from animeflow.catalogue.sources.categories import Sorted
from animeflow.catalogue.sources.gallery_dl import read_tag_file
from animeflow.catalogue.table import Catalogue
from animeflow.text.database import TagDatabase
from animeflow.text.importers.build import build
from animeflow.text.tags import empty_tags

FLAT = ["1girl", "akari_hoshino", "starlit_academy", "bold_brush", "smile", "rin", "nobody_knows"]
PLACED = {"general": ["1girl", "smile", "rin", "nobody_knows"], "character": ["akari_hoshino"], "copyright": ["starlit_academy"],
          "artist": ["bold_brush"], "meta": []}  # fmt: skip


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tags") / "tags.db"
    build([Path(str(resources.files("animeflow.text").joinpath("sample_tags.csv")))], out)
    return out


def test_a_word_has_the_category_on_which_all_its_meanings_agree(database: Path) -> None:
    known = TagDatabase.open(database)
    found = {
        word: known.category_of_word(word)
        for word in ("akari_hoshino", "hoshino_akari", "星光学园", "笑顔", "rin", "akari", "zz")
    }
    assert found == {"akari_hoshino": "character", "hoshino_akari": "character", "星光学园": "copyright", "笑顔": "general",
                     "rin": None, "akari": None, "zz": None}  # fmt: skip


def test_only_posts_whose_site_says_nothing_are_unsorted(tmp_path: Path) -> None:
    text = " ".join(FLAT)
    unsorted = {
        "gelbooru": {"id": 1, "tags": text, "directory": "a", "image": "b.png"},
        "yandere": {"id": 1, "tags": text, "jpeg_url": "x", "tags_general": []},
        "pixiv": {"id": 1, "tags": [{"name": "笑顔", "translated_name": "smile"}], "x_restrict": 0},
    }
    for site, record in unsorted.items():
        assert read_post(record, site).unsorted, site
    told = {
        "danbooru": {"id": 1, "tag_string_general": text, "tag_string": text},
        "gelbooru": {"id": 1, "tags": text, "tags_general": FLAT},
        "e621": {"id": 1, "tags": {"general": FLAT}},
        "sankaku": {"id": 1, "tags": [{"name": "smile", "type": 0}]},
    }
    for site, record in told.items():
        assert not read_post(record, site).unsorted, site
    file = tmp_path / "danbooru_1.png.txt"
    for words, unsorted_ in ((FLAT, True), (["1girl", "artist:kei"], False)):
        file.write_text("\n".join(words))
        assert read_tag_file(file).unsorted is unsorted_


def test_words_are_moved_once_and_none_is_lost(tmp_path: Path, database: Path) -> None:
    asked: list[str] = []

    def category_of(word: str) -> str | None:
        asked.append(word)
        return TagDatabase.open(database).category_of_word(word)

    class Posts:
        name, root = "posts", tmp_path

        def __iter__(self):
            for unsorted in (True, True, False):
                yield Candidate(
                    tmp_path / "a.png", Facts(tags=empty_tags() | {"general": list(FLAT)}, unsorted=unsorted)
                )

        def __len__(self) -> int:
            return 3

    source = Sorted(Posts(), category_of)
    first, second, other = source
    assert first.facts.tags == second.facts.tags == PLACED and sorted(asked) == sorted(FLAT), "a word is looked up once"
    assert other.facts.tags["general"] == FLAT
    assert (source.name, source.root, source.__length_hint__()) == ("posts", tmp_path, 3)


def test_a_catalogue_is_sorted_anew_when_the_database_is_there(tmp_path: Path, database: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "7.png")
    post = {"id": 7, "tags": " ".join(FLAT), "directory": "x", "image": "7.png", "rating": "general"}
    (tmp_path / "posts.json").write_text(json.dumps({"post": [post]}))
    words = ["catalogue=booru_api", f"catalogue.root={folder}", f"catalogue.posts={tmp_path}/posts.json", f"set={tmp_path}/set",
             "catalogue.workers=0"]  # fmt: skip

    def tags() -> dict[str, list[str]]:
        (only,) = Catalogue(tmp_path / "set" / "catalogue").posts()
        return only.tags

    assert collect(compose(words)).added == 1 and tags()["general"] == FLAT
    report = collect(compose([*words, f"text.database={database}"]))
    assert (report.known, report.updated) == (1, 1) and tags() == PLACED


def test_who_put_a_work_on_pixiv_is_its_artist() -> None:
    record = {
        "id": 5,
        "tags": ["笑顔"],
        "x_restrict": 0,
        "user": {"id": 1, "name": "あかり@月曜 A-01", "account": "Akari_H"},
    }
    facts = read_post(record, "pixiv")
    assert facts.tags["artist"] == ["akari_h"] and facts.tags["general"] == ["笑顔"] and "akari_h" in facts.surfaces
    assert (facts.site, facts.url) == ("pixiv", "https://www.pixiv.net/artworks/5")
    assert read_post(record | {"user": {"name": "Kei Sato"}}, "pixiv").tags["artist"] == ["kei_sato"]
    for user in (None, "kei", {}, {"account": 5.5, "name": " "}):
        assert read_post(record | {"user": user}, "pixiv").tags["artist"] == []
    assert read_post({"id": 1, "tags": "smile", "user": {"account": "kei"}}, "gelbooru").tags["artist"] == []
