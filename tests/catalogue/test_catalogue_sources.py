"""Other people's folders and dumps are read as they are, and nothing in them is left out of the account."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from animeflow.catalogue.sources.booru import read_post
from animeflow.catalogue.sources.danbooru import DanbooruSource
from animeflow.catalogue.sources.fields import iso_utc, signs_in
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.sources.gallery_dl import GalleryDlSource, read_sidecar
from animeflow.catalogue.sources.toonworld import ToonworldSource
from animeflow.core.errors import DataError
from animeflow.image.encode import encode_png


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.random.default_rng(seed).integers(0, 256, (24, 20, 3), dtype=np.uint8)))
    return path


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def by_name(source) -> dict:
    return {candidate.path.name: candidate for candidate in source}


# folder ----------------------------------------------------------------------------------------------------------------


def test_folder_takes_animas_at_sign_for_an_artist_and_a_face_for_a_face(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("1girl, @Nnn Yryr, @_@, artist:bob, @bob")
    tags = by_name(FolderSource(tmp_path))["a.png"].facts.tags
    assert tags["artist"] == ["nnn_yryr", "bob"]
    assert tags["general"] == ["1girl", "@_@"]


def test_folder_reads_tags_sentences_and_languages(tmp_path):
    for name in ("a.png", "deep/er/b.png", "c.png", "d.png", "e.png", "f.png"):
        picture(tmp_path / name)
    (tmp_path / "a.txt").write_text("1girl, Blue Eyes, solo")
    (tmp_path / "a.caption").write_text("A girl with blue eyes.\n")
    (tmp_path / "a.ja.caption").write_text("青い目の少女。")
    (tmp_path / "deep/er/b.png.txt").write_text(
        "character:alice\nartist:bob\nrating:explicit\nsmile\nmeta:highres\nseries:wonder land"
    )
    (tmp_path / "c.txt").write_text(
        "A girl stands in a field of flowers, looking at the sky while the wind moves her hair."
    )
    (tmp_path / "d.caption").write_text("1girl, solo, long hair, red eyes, smile")
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe\x00bad")
    found = by_name(FolderSource(tmp_path, rating="general"))
    assert found["a.png"].facts.tags["general"] == ["1girl", "blue_eyes", "solo"]
    assert found["a.png"].facts.captions == {"en": "A girl with blue eyes.", "ja": "青い目の少女。"}
    b = found["b.png"].facts
    assert (b.tags["character"], b.tags["artist"], b.tags["copyright"]) == (["alice"], ["bob"], ["wonder_land"])
    assert (b.tags["general"], b.tags["meta"], b.rating) == (["smile"], ["highres"], "explicit")
    assert list(found["c.png"].facts.captions) == ["en"] and not found["c.png"].facts.tags["general"]
    assert found["d.png"].facts.tags["general"][-1] == "smile" and not found["d.png"].facts.captions
    assert found["e.png"].reason == "bad_sidecar"
    assert found["f.png"].reason is None and found["f.png"].facts.rating == "general"


def test_folder_accounts_for_every_file(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "picture.dat", seed=1)
    (tmp_path / "lost.txt").write_text("1girl")
    (tmp_path / "notes.md").write_text("hello, this is a note about the pictures")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / ".hidden").write_text("x")
    reasons = {name: candidate.reason for name, candidate in by_name(FolderSource(tmp_path)).items()}
    assert reasons == {
        "a.png": None, "picture.dat": None, "empty.png": None, "lost.txt": "missing_picture", "notes.md": "unknown_format"
    }  # fmt: skip


def test_folder_order_does_not_change(tmp_path):
    for name in ("b/2.png", "a/1.png", "c.png", "a.png"):
        picture(tmp_path / name)
    names = [str(candidate.path.relative_to(tmp_path)) for candidate in FolderSource(tmp_path)]
    assert names == ["a.png", "c.png", "a/1.png", "b/2.png"]
    with pytest.raises(DataError, match="no folder"):
        list(FolderSource(tmp_path / "nowhere"))


# danbooru --------------------------------------------------------------------------------------------------------------


def posts_of(tmp_path: Path) -> list[dict]:
    files = [picture(tmp_path / "pictures" / "0.tmp.png", seed=number) for number in [0]]
    digest = md5(files[0])
    files[0].rename(tmp_path / "pictures" / f"{digest}.png")
    second = picture(tmp_path / "pictures" / "danbooru_22_whatever.png", seed=1)
    third = picture(tmp_path / "pictures" / "sub" / "no name at all.png", seed=2)
    fourth = picture(tmp_path / "pictures" / "given.png", seed=3)
    picture(tmp_path / "pictures" / "stranger.png", seed=4)
    (tmp_path / "pictures" / "readme.html").write_text("<html></html>")
    base = {
        "rating": "s",
        "tag_string_general": "1girl solo",
        "tag_string_artist": "bob",
        "tag_string_meta": "",
        "score": 5,
    }
    return [
        base | {"id": 11, "md5": digest, "created_at": "2023-03-29T09:10:38.000-04:00"},
        base | {"id": 22, "md5": "0" * 32, "tag_string_meta": "highres ai-generated"},
        base | {"id": 33, "md5": md5(third), "tag_string_meta": "ai-assisted"},
        base | {"id": 44, "file_path": fourth.name},
        base | {"id": 55},
        base | {"id": 66, "md5": "f" * 32, "file_path": "../../etc/passwd"},
        base | {"id": 77, "md5": md5(second)},
    ]


@pytest.mark.parametrize("form", ["array", "lines", "object"])
def test_danbooru_finds_files_by_md5_id_path_and_content(tmp_path, form):
    posts = posts_of(tmp_path)
    file = tmp_path / "posts.json"
    file.write_text(
        {
            "array": json.dumps(posts),
            "lines": "\n".join(map(json.dumps, posts)),
            "object": json.dumps({"posts": posts}),
        }[form]
    )
    source = DanbooruSource(file, pictures=tmp_path / "pictures")
    found = list(source)
    assert len(source) == len(found) == 9, "files that belong to no post are candidates too"
    good = {candidate.facts.source_id: candidate for candidate in found if candidate.reason is None}
    assert set(good) == {"11", "22", "33", "44"}
    assert good["33"].path.name == "no name at all.png" and good["44"].path.name == "given.png"
    assert good["11"].facts.created_at == "2023-03-29T13:10:38+00:00"
    assert good["11"].facts.rating == "sensitive" and good["11"].facts.score == 5
    assert good["11"].facts.url == "https://danbooru.donmai.us/posts/11"
    assert [good[key].facts.origin for key in ("11", "22", "33")] == ["unknown", "ai", "ai_assisted"]
    refused = sorted((candidate.path.name, candidate.reason) for candidate in found if candidate.reason)
    assert refused == [
        ("post 55", "missing_picture"), ("post 66", "missing_picture"), ("post 77", "missing_picture"),
        ("readme.html", "unknown_format"), ("stranger.png", "missing_metadata"),
    ]  # fmt: skip


def test_danbooru_says_what_is_wrong_with_a_dump(tmp_path):
    with pytest.raises(DataError, match="no file"):
        list(DanbooruSource(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{not json")
    with pytest.raises(DataError, match="neither a JSON array nor JSON lines"):
        list(DanbooruSource(tmp_path / "bad.json"))


# gallery-dl and the sites ----------------------------------------------------------------------------------------------


def test_gallery_dl_accounts_for_pictures_and_metadata(tmp_path):
    record = {"category": "gelbooru", "id": 7, "tags": "1girl solo", "tags_general": "1girl", "rating": "questionable"}
    picture(tmp_path / "gelbooru" / "a.png")
    (tmp_path / "gelbooru" / "a.png.json").write_text(json.dumps(record))
    (tmp_path / "gelbooru" / "a.png.txt").write_text("1girl\n")
    (tmp_path / "gelbooru" / "gone.jpg.json").write_text(json.dumps(record))
    picture(tmp_path / "bare.png")
    picture(tmp_path / "broken.png")
    (tmp_path / "broken.png.json").write_text("[1, 2]")
    (tmp_path / "info.json").write_text("{}")
    (tmp_path / ".a_meta.json").write_text('{"__type": "x", "base64": "gASVAAAA"}')
    found = by_name(GalleryDlSource(tmp_path))
    assert {name: candidate.reason for name, candidate in found.items()} == {
        "a.png": None, "gone.jpg": "missing_picture", "bare.png": "missing_metadata", "broken.png": "bad_sidecar",
        "info.json": "unknown_format",
    }  # fmt: skip
    assert found["a.png"].facts.site == "gelbooru" and found["a.png"].facts.rating == "questionable"


EXPECTED = {  # site: rating, number of general, character, copyright, artist, meta tags, score
    "danbooru": ("general", {"general": 27, "character": 1, "copyright": 1, "artist": 0, "meta": 3}, 54),
    "gelbooru": ("general", {"general": 27, "character": 1, "copyright": 1, "artist": 0, "meta": 3}, 54),
    "yandere": ("general", {"general": 32, "character": 0, "copyright": 0, "artist": 0, "meta": 0}, 54),
    "sankaku": ("general", {"general": 27, "character": 1, "copyright": 1, "artist": 0, "meta": 0}, 20),
    "e621": ("general", {"general": 27, "character": 1, "copyright": 1, "artist": 0, "meta": 3}, 54),
    "pixiv": ("unknown", {"general": 3, "character": 0, "copyright": 0, "artist": 1, "meta": 0}, None),
}


def test_every_real_sidecar_layout_parses(test_data):
    seen = set()
    for file in sorted((test_data / "schemas" / "gallery-dl").rglob("*.json")):
        record = read_sidecar(file)
        facts = read_post(record, record["category"])
        seen.add(facts.site)
        assert facts.source_id == str(record["id"]) and facts.url.startswith("https://")
        assert facts.created_at.startswith(("2023-", "2017-", "2018-")) and facts.created_at.endswith("+00:00")
        assert facts.surfaces and facts.origin == "unknown"
        if "9000028" in file.name or "900000028" in file.name or "aFlow" in file.name:
            rating, numbers, score = EXPECTED[facts.site]
            assert (facts.rating, {category: len(names) for category, names in facts.tags.items()}) == (rating, numbers)
            assert facts.score == score
            if facts.site not in ("pixiv",):
                assert facts.created_at == "2023-02-25T19:54:00+00:00"
    assert seen == set(EXPECTED)


@pytest.mark.parametrize("site", ["danbooru", "e621", "sankaku"])
def test_the_sites_own_answers_parse_too(test_data, site):
    name = {"danbooru": "danbooru.posts", "e621": "e621.posts", "sankaku": "sankaku.v2.posts"}[site]
    answer = json.loads((test_data / "schemas" / "api" / f"{name}.json").read_text())
    posts = answer if isinstance(answer, list) else answer.get("posts") or answer.get("data") or [answer]
    for post in posts:
        facts = read_post(post, site)
        assert len(facts.tags["general"]) > 5 and facts.created_at and facts.rating == "general"
        assert not {"sylvie_(the_question)", "sachi_(squishy)"} & set(facts.tags["general"])


def test_real_pictures_beside_real_sidecars(test_data, tmp_path):
    """gallery-dl names its files by md5: put the pictures beside their metadata."""
    shutil.copytree(
        test_data / "schemas" / "gallery-dl" / "danbooru", tmp_path / "danbooru", copy_function=shutil.copyfile
    )
    (tmp_path / "danbooru").chmod(0o755)
    wanted = {json.loads(file.read_text())["md5"]: file for file in (tmp_path / "danbooru").glob("*.json")}
    for file in (test_data / "images").rglob("*.png"):
        if (digest := md5(file)) in wanted:
            shutil.copyfile(file, wanted[digest].with_suffix(""))
    found = list(GalleryDlSource(tmp_path))
    assert len(found) == 3 and all(candidate.reason is None for candidate in found)


def test_tags_of_dropped_categories_still_reach_the_blocklist():
    facts = read_post(
        {"id": 1, "tags_general": ["fox"], "tags_lore": ["young_(lore)"], "tags": ["fox", "young_(lore)"]}, "e621"
    )
    assert facts.tags["general"] == ["fox"] and "young_(lore)" in facts.surfaces


def test_dates():
    same = "2023-02-25T19:54:00+00:00"
    for value in (
        1677354840, "1677354840", "2023-02-25 19:54:00", "2023-02-25T14:54:00.000-05:00", "Sat Feb 25 19:54:00 +0000 2023",
        {"json_class": "Time", "s": 1677354840, "n": 0},
    ):  # fmt: skip
        assert iso_utc(value) == same
    assert iso_utc("yesterday") is iso_utc(None) is iso_utc("") is iso_utc(10**30) is None


def test_origin_is_what_the_site_says():
    assert [sign.says for sign in signs_in([], {"illust_ai_type": 2})] == ["ai"]
    assert [sign.says for sign in signs_in([], {"illust_ai_type": 1})] == []  # not marked is not proven
    assert [sign.says for sign in signs_in([], {"generation_directives": {"prompt": "x"}})] == ["ai"]
    assert [sign.says for sign in signs_in(["ai_generated"], {})] == ["ai"]
    assert [sign.says for sign in signs_in(["ai-generated_art_(topic)"], {})] == []


# toonworld -------------------------------------------------------------------------------------------------------------


def test_toonworld_lines(tmp_path):
    picture(tmp_path / "0000000.png")
    line = {
        "index": 0,
        "file": "0000000.png",
        "tags": {"general": ["1girl"]},
        "captions": {"en": "A girl."},
        "scene": {"seed": 3},
    }
    (tmp_path / "truth.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line | {"file": "gone.png"}) + "\n")
    first, second = ToonworldSource(tmp_path)
    assert (
        first.facts.origin == "drawn_by_program" and first.facts.truth == {"seed": 3} and first.facts.tags["meta"] == []
    )
    assert second.reason == "missing_picture"
    with pytest.raises(DataError, match=r"truth\.jsonl"):
        list(ToonworldSource(tmp_path / "empty"))


def test_a_drawn_folder_becomes_a_catalogue_with_its_truth(tmp_path):
    from animeflow.catalogue.ingest import ingest
    from animeflow.catalogue.table import Catalogue
    from animeflow.toonworld.dataset import World, write_dataset

    write_dataset(tmp_path / "drawn", 6, sizes=((64, 64), (96, 64)))
    catalogue = Catalogue(tmp_path / "catalogue")
    report = ingest(catalogue, ToonworldSource(tmp_path / "drawn"), workers=0)
    assert (report.found, report.added) == (6, 6)
    world = World(sizes=((64, 64), (96, 64)))
    for post in catalogue.posts():
        index = int(post.source_id)
        assert post.truth == json.loads(json.dumps(world.scene(index).to_dict()))
        assert (post.height, post.width) == world.size(index)
        assert post.origin == "drawn_by_program" and post.rating == "general" and set(post.captions) >= {"en", "ja"}
