"""Cut files, files of something else, wrong types: each is counted with a reason, or stops with an error that says what to do."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from animeflow.catalogue.candidate import Facts
from animeflow.catalogue.ingest import ingest
from animeflow.catalogue.sources.booru import read_post
from animeflow.catalogue.sources.danbooru import DanbooruSource, booru_api
from animeflow.catalogue.sources.fields import parent_of, signs_in
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.sources.gallery_dl import GalleryDlSource
from animeflow.catalogue.sources.hydrus import HydrusSource
from animeflow.catalogue.sources.imagefolder import ImageFolderSource
from animeflow.catalogue.sources.sidecar import read_row
from animeflow.catalogue.sources.sites import FAMILIES, is_of, post_at, site_of
from animeflow.catalogue.sources.waifuc import WaifucSource
from animeflow.catalogue.table import Catalogue
from animeflow.core.errors import ConfigError, DataError
from animeflow.image.encode import encode_png

DANBOORU = {"id": 11, "rating": "g", "tag_string_general": "1girl solo", "tag_string_artist": "bob", "score": 5}
PICKLE = {"id": 1, "thing": {"__type": "numpy.ndarray", "base64": "gASVAAAA"}}


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.random.default_rng(seed).integers(0, 256, (24, 20, 3), dtype=np.uint8)))
    return path


def reasons(source) -> dict[str, str | None]:
    return {candidate.path.name: candidate.reason for candidate in source}


def counted(tmp_path: Path, source) -> dict[str, int]:
    """What a catalogue makes of a source; nothing found is lost."""
    report = ingest(Catalogue(tmp_path / "set" / "catalogue", root=tmp_path), source, workers=0)
    assert report.found == report.added + report.known + report.rejected.total()
    return {"added": report.added, **report.rejected}


# -- dumps ---------------------------------------------------------------------------------------------------------------


def test_a_line_of_many_that_is_broken_is_counted_and_the_others_are_read(tmp_path):
    for number in (11, 12):
        picture(tmp_path / "pictures" / f"{number}.png", number)
    lines = [
        json.dumps(DANBOORU),
        '{"id": 13, "rating',
        "[1, 2]",
        "null",
        json.dumps(DANBOORU | {"id": 12}),
        "",
        json.dumps(PICKLE),
    ]
    (tmp_path / "posts.jsonl").write_text("\n".join(lines))
    source = DanbooruSource(tmp_path / "posts.jsonl", pictures=tmp_path / "pictures")
    assert counted(tmp_path, source) == {"added": 2, "bad_metadata": 4}
    assert {c.path.name for c in source if c.reason} == {f"posts.jsonl line {number}" for number in (2, 3, 4, 7)}


def test_a_line_may_hold_signs_that_python_takes_for_the_end_of_one(tmp_path):
    picture(tmp_path / "pictures" / "11.png")
    text = json.dumps(DANBOORU | {"source": "a\u2028b\u0085c"}, ensure_ascii=False)
    (tmp_path / "posts.jsonl").write_text(text + "\n" + text, encoding="utf-8")
    assert len(list(DanbooruSource(tmp_path / "posts.jsonl", pictures=tmp_path / "pictures"))) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("posts.json", b'[{"id": 1, "rating": "g"}, {"id": 2, "ra', "neither a JSON array nor JSON lines"),
        ("posts.jsonl", b"id,rating\n1,g\n", "neither a JSON array nor JSON lines"),
        ("posts.json", "[]".encode("utf-16"), "not UTF-8"),
        ("posts.json", b"[" * 100_000, "nested too deeply"),
        ("posts.json", b'{"success": true, "posts": [{"width": 3, "height": 4}]}', "no post of a known site"),
        ("posts.json", b'{"success": false, "message": "rate limited"}', "an error of the site"),
        ("posts.parquet", b"PAR1 not at all", "no Parquet file"),
    ],
)
def test_a_dump_that_is_broken_as_a_whole_stops_with_what_to_do(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says) as error:
        list(booru_api(tmp_path / name))
    assert error.value.do


def test_posts_of_another_site_are_refused_one_by_one_and_a_whole_file_of_them_at_once(tmp_path):
    other = {"id": 12, "file": {"md5": "0" * 32}, "tags": {"general": ["solo"]}, "relationships": {}, "rating": "s"}
    picture(tmp_path / "pictures" / "11.png")
    file = tmp_path / "posts.json"
    file.write_text(json.dumps([DANBOORU, other]))
    assert counted(tmp_path, DanbooruSource(file, pictures=tmp_path / "pictures")) == {"added": 1, "bad_metadata": 1}
    assert reasons(booru_api(file, pictures=tmp_path / "pictures")) == {"11.png": None, "post 12": "missing_picture"}
    file.write_text(json.dumps({"posts": [other]}))
    with pytest.raises(DataError, match="a post of e621, not of danbooru"):
        list(DanbooruSource(file, pictures=tmp_path / "pictures"))


def test_an_answer_without_a_post_is_empty_and_a_folder_of_answers_is_one_dump(tmp_path):
    picture(tmp_path / "pictures" / "11.png")
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "1.json").write_text(json.dumps([DANBOORU]))
    (pages / "2.json").write_text(json.dumps({"@attributes": {"limit": 100, "offset": 0, "count": 0}}))
    (pages / "3.json").write_text("[]")
    assert counted(tmp_path, booru_api(pages, pictures=tmp_path / "pictures")) == {"added": 1}


@pytest.mark.parametrize(
    ("posts", "old"),
    [
        ([{"rating": "s", "created_at": "2019-01-01T00:00:00Z"}, {"rating": "q", "created_at": "2021-12-31T00:00:00Z"}], True),
        ([{"rating": "s", "created_at": "2019-01-01T00:00:00Z"}, {"rating": "g", "created_at": "2012-01-01T00:00:00Z"}], False),
        ([{"rating": "s", "created_at": "2019-01-01T00:00:00Z", "updated_at": "2022-06-01T00:00:00Z"}], False),
        ([{"rating": "s", "created_at": "2019-01-01T00:00:00Z", "media_asset": {}}], False),
        ([{"rating": "s"}], False),
    ],
)  # fmt: skip
def test_dates_and_letters_of_a_dump_tell_what_s_meant(tmp_path, posts, old):
    for number, post in enumerate(posts):
        picture(tmp_path / "pictures" / f"{number}.png", number)
        posts[number] = {"id": number, "tag_string": "solo", **post}
    (tmp_path / "posts.json").write_text(json.dumps(posts))
    found = next(iter(DanbooruSource(tmp_path / "posts.json", pictures=tmp_path / "pictures")))
    assert found.facts.rating == ("general" if old else "sensitive")
    told = next(iter(DanbooruSource(tmp_path / "posts.json", pictures=tmp_path / "pictures", before_2022=not old)))
    assert (told.facts.rating == "sensitive") == (old or "media_asset" in posts[0])


def test_all_pages_of_a_work_of_pixivs_api_are_pictures_of_one_post(tmp_path):
    work = {
        "id": 77,
        "tags": [{"name": "女の子", "translated_name": "girl"}],
        "x_restrict": 1,
        "illust_ai_type": 2,
        "create_date": "2024-01-02",
    }
    for number, name in enumerate(("77_p0", "77_p1", "78_p0")):
        picture(tmp_path / "pictures" / f"{name}.png", number)
    (tmp_path / "page.json").write_text(json.dumps({"illusts": [work], "next_url": None}))
    found = {c.path.name: c for c in booru_api(tmp_path / "page.json", pictures=tmp_path / "pictures")}
    assert {name: c.reason for name, c in found.items()} == {
        "77_p0.png": None,
        "77_p1.png": None,
        "78_p0.png": "missing_metadata",
    }
    assert found["77_p1.png"].facts == found["77_p0.png"].facts
    facts = found["77_p1.png"].facts
    assert (facts.tags["general"], facts.rating, facts.origin, facts.site) == (["女の子"], "explicit", "ai", "pixiv")
    assert "girl" in facts.surfaces, "the blocklist sees translations"


def test_a_site_of_ones_own_may_be_named_and_a_slip_is_told(tmp_path):
    (tmp_path / "posts.json").write_text(json.dumps([DANBOORU]))
    with pytest.raises(ConfigError, match="did you mean 'gelbooru'"):
        booru_api(tmp_path / "posts.json", site="gelboru")
    (found,) = booru_api(tmp_path / "posts.json", site="safebooru")
    assert found.reason == "missing_picture"


# -- sidecars ------------------------------------------------------------------------------------------------------------


def test_lines_of_gallery_dl_find_their_pictures_by_its_names(tmp_path):
    root = tmp_path / "pictures"
    pixiv = {"category": "pixiv", "id": 77, "tags": ["x"], "rating": "General", "extension": "png"}
    records = [
        {"category": "yandere", "id": 5, "md5": "a" * 32, "tags": "1girl", "rating": "s"},
        {"category": "danbooru", "id": 6, "filename": "orig", "tags": ["old"], "rating": "g"},
        {"category": "danbooru", "id": 6, "filename": "orig", "tags": ["new"], "rating": "q"},
        *(pixiv | {"num": page, "tags": [f"page{page}"]} for page in (0, 1)),
        {"category": "e621", "id": 404, "tags": ["gone"]},
        {"tags": ["nobody's"]},
    ]
    names = (f"yandere_5_{'a' * 32}.png", "danbooru_6_orig.png", "77_p1.png", "77_p0.png", "alone.png")
    for number, name in enumerate(names):
        picture(root / "sub" / name, number)
    (root / "data.jsonl").write_text("\n".join(map(json.dumps, records)))
    found = {c.path.name: c for c in GalleryDlSource(root)}
    assert {name: c.facts.tags["general"] for name, c in found.items() if c.reason is None} == {
        names[0]: ["1girl"], names[1]: ["new"], names[2]: ["page1"], names[3]: ["page0"],
    }  # fmt: skip
    assert {name: c.reason for name, c in found.items() if c.reason} == {
        "alone.png": "missing_metadata", "data.jsonl line 2": "named_again", "data.jsonl line 6": "missing_picture",
        "data.jsonl line 7": "bad_metadata",
    }  # fmt: skip
    assert counted(tmp_path, GalleryDlSource(root))["added"] == 4


def test_hydrus_counts_what_lacks_its_other_half_and_what_it_cannot_read(tmp_path):
    root = tmp_path / "pictures"
    for number, name in enumerate(("a", "b", "c", "d", "e", "f")):
        picture(root / f"{name}.png", number)
    (root / "a.png.txt").write_text(
        "creator:Bob Ross\nseries:a b\ncharacter:C D\nre:zero\ntitle:My Own\npage:3\nrating:explicit\n:d\n1girl\n",
        encoding="utf-8",
    )
    urls = ["https://x.invalid/1", "https://danbooru.donmai.us/posts/55?q=solo"]
    (root / "b.png.json").write_text(json.dumps({"tags": {"my tags": ["solo"], "ptr": ["creator:x"]}, "urls": urls}))
    (root / "c.png.json").write_text(json.dumps({"tags": "solo", "notes": {"a": {"__type": "x", "base64": "gA=="}}}))
    (root / "d.png.json").write_text(json.dumps({"tags": ["solo", 5]}))
    (root / "e.png.txt").write_bytes("1girl".encode("utf-16"))
    (root / "gone.jpg.txt").write_text("1girl")
    (root / "note.md").write_text("nothing of hydrus's, but something to read")
    found = {c.path.name: c for c in HydrusSource(root)}
    assert {name: c.reason for name, c in found.items()} == {
        "a.png": None, "b.png": None, "c.png": "bad_sidecar", "d.png": "bad_sidecar", "e.png": "bad_sidecar",
        "f.png": "missing_metadata", "gone.jpg": "missing_picture", "note.md": "unknown_format",
    }  # fmt: skip
    a, b = found["a.png"].facts, found["b.png"].facts
    assert a.tags == {
        "general": ["re:zero", ":d", "1girl"],
        "character": ["c_d"],
        "copyright": ["a_b"],
        "artist": ["bob_ross"],
        "meta": [],
    }
    assert a.rating == "explicit" and "title:my_own" in a.surfaces
    assert (b.source_id, b.site, b.tags["artist"], b.tags["general"]) == ("55", "danbooru", ["x"], ["solo"])


def test_imagefolder_counts_rows_that_name_nothing_or_lead_out(tmp_path):
    root = tmp_path / "pictures"
    picture(root / "train" / "a.png")
    picture(root / "train" / "b.png", 1)
    picture(root / "lonely.png", 2)
    picture(tmp_path / "secret.png", 3)
    rows = [
        {"file_name": "a.png", "text": "A girl who reads a book.", "text_ja": "本を読む少女。",
         "tags": ["1girl", "artist:bob"], "rating": "q",
         "license": "CC0", "origin": "human", "date": "2024-05-06"},
        {"file_name": "b.png", "text": "1girl, solo, ai-generated", "origin": "human", "score": 1e400},
        {"file_name": "gone.png"}, {"file_name": "../../secret.png"}, {"file_name": "C:\\secret.png"}, {"text": "nothing"},
        {"file_name": ["a.png"]}, {"file_name": "a.png", "x": PICKLE}, {"file_name": ""},
    ]  # fmt: skip
    (root / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = list(ImageFolderSource(root))
    good = {c.path.name: c.facts for c in found if c.reason is None}
    a, b = good["a.png"], good["b.png"]
    assert a.captions == {"en": "A girl who reads a book.", "ja": "本を読む少女。"}
    assert (a.tags["general"], a.tags["artist"], a.rating) == (["1girl"], ["bob"], "questionable")
    assert (a.licence, a.origin, a.created_at) == ("CC0", "human", "2024-05-06T00:00:00+00:00")
    assert b.tags["general"] == ["1girl", "solo", "ai-generated"] and b.score is None
    assert (b.origin, b.evidence) == ("ai", ("certain ai tag ai-generated",)), "a tag goes before a claim"
    assert counted(tmp_path, ImageFolderSource(root)) == {
        "added": 2, "missing_picture": 1, "bad_metadata": 5, "pickled_sidecar": 1, "missing_metadata": 1,
    }  # fmt: skip
    with pytest.raises(DataError, match="has no metadata"):
        list(ImageFolderSource(tmp_path / "set"))


def test_kohyas_metadata_names_pictures_by_stem_by_path_and_by_windows_path(tmp_path):
    root = tmp_path / "pictures"
    for number, name in enumerate(
        ("a.png", "sub/b.png", "sub/c.webp.png", "x/same.png", "y/same.png", "left.png", "moved.png")
    ):
        picture(root / name, number)
    (root / "a.txt").write_text("not, read")
    entries = {
        "a": {"tags": "1girl, solo"}, str(root / "sub" / "b"): {"caption": "A girl."}, "sub\\c.webp.png": {"tags": "boy"},
        "same": {"tags": "x"}, "nobody": {"tags": "x"}, "a.png": {"tags": "again"}, "left": ["no", "object"],
        "D:\\old\\place\\moved.png": {"tags": "kept"}, "D:\\old\\same.png": {"tags": "of which?"},
    }  # fmt: skip
    (root / "meta_cap.json").write_text(json.dumps(entries))
    source = FolderSource(root, metadata=root / "meta_cap.json")
    found = {str(c.path.relative_to(root)): c for c in source}
    assert found["a.png"].facts.tags["general"] == ["1girl", "solo"] and found["sub/b.png"].facts.captions == {
        "en": "A girl."
    }
    assert found["sub/c.webp.png"].facts.tags["general"] == ["boy"] and found["moved.png"].facts.tags["general"] == [
        "kept"
    ]
    assert {name: c.reason for name, c in found.items() if c.reason} == {
        "x/same.png": "missing_metadata", "y/same.png": "missing_metadata", "left.png": "missing_metadata",
        "meta_cap.json entry 3": "ambiguous_name", "meta_cap.json entry 4": "missing_picture",
        "meta_cap.json entry 8": "missing_picture", "meta_cap.json entry 5": "named_twice", "meta_cap.json entry 6": "bad_metadata",
    }  # fmt: skip
    assert counted(tmp_path, source)["added"] == 4
    for content, says in (
        ("[]", "no metadata of kohya's"),
        ('{"a": {', "not JSON"),
        ('{"a": 5}', "no metadata of kohya's"),
    ):
        (root / "meta_cap.json").write_text(content)
        with pytest.raises(DataError, match=says):
            list(FolderSource(root, metadata=root / "meta_cap.json"))


def test_waifuc_reads_plain_values_and_never_opens_a_pickle(tmp_path):
    root = tmp_path / "pictures"
    for number, name in enumerate(("plain", "deep", "bare", "cut", "list")):
        picture(root / f"{name}.png", number)
    (root / ".plain_meta.json").write_text(json.dumps({
        "tags": {"1girl": 0.9, "blue_eyes": 0.2, "shy": "0.9"}, "url": "https://yande.re/post/show/7", "filename": "plain.png",
    }))  # fmt: skip
    (root / ".deep_meta.json").write_text(json.dumps({"tags": {"1girl": 1.0}, "danbooru": {"x": [{"y": PICKLE}]}}))
    (root / ".cut_meta.json").write_text('{"tags": {"1girl"')
    (root / ".list_meta.json").write_text('["1girl"]')
    (root / ".gone_meta.json").write_text("{}")
    found = {c.path.name: c for c in WaifucSource(root)}
    assert {name: c.reason for name, c in found.items()} == {
        "plain.png": None, "deep.png": "pickled_sidecar", "bare.png": "missing_metadata", "cut.png": "bad_sidecar",
        "list.png": "bad_sidecar", "gone": "missing_picture",
    }  # fmt: skip
    plain = found["plain.png"].facts
    assert plain.tags["general"] == ["1girl"] and (plain.site, plain.source_id) == ("yandere", "7")
    assert set(plain.surfaces) == {"1girl", "blue_eyes", "shy"}, "the blocklist sees what a threshold leaves out"
    assert "pickle" in found["deep.png"].detail


def test_a_file_name_that_is_no_text_is_counted(tmp_path):
    picture(tmp_path / "pictures" / "good.png")
    try:
        with open(os.fsencode(tmp_path) + b"/pictures/\x83e.png", "wb") as file:
            file.write((tmp_path / "pictures" / "good.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes no such name")
    source = FolderSource(tmp_path / "pictures")
    assert counted(tmp_path, source) == {"added": 1, "bad_name": 1}
    (rejection,) = Catalogue(tmp_path / "set" / "catalogue", root=tmp_path).rejections
    assert rejection.path == "pictures/\\udc83e.png"


# -- what a record says --------------------------------------------------------------------------------------------------


def test_signs_of_ai_in_a_record_are_words_of_evidence():
    def words(*arguments: Any) -> list[str]:
        return [sign.word for sign in signs_in(*arguments)]

    assert words(["ai-generated"], {}) == words(["ai_generated"], {}) == ["certain ai tag ai-generated"]
    assert words(["ai-assisted"], {}) == ["declared ai_assisted tag ai-assisted"]
    assert words([], {"illust_ai_type": 2}) == ["certain ai field illust_ai_type"]
    assert words([], {"generation_directives": {"tags": []}}) == ["certain ai field generation_directives"]
    assert words([], {"category": "e6ai"}) == words([], {}, "e6ai") == ["certain ai field e6ai"]
    assert words(["ai-generated_art_(topic)", "ai_dungeon"], {"illust_ai_type": 1, "generation_directives": None}) == []
    assert [sign.says for sign in signs_in(["ai-assisted", "ai-generated"], {})] == ["ai", "ai_assisted"]
    assert [sign.says for sign in signs_in(["ai-assisted"], {})] == ["ai_assisted"]
    facts = read_post({"id": 1, "tags": "solo", "tag_string_meta": "ai-generated", "parent_id": 9}, "danbooru")
    assert (facts.origin, facts.evidence, facts.parent) == ("ai", ("certain ai tag ai-generated",), "9")


def test_parents_of_every_shape():
    assert (
        parent_of({"id": 1, "parent_id": 0})
        is parent_of({"parent_id": None})
        is parent_of({"id": 4, "parent_id": 4})
        is None
    )
    assert parent_of({"relationships": {"parent_id": 8}}) == "8" and parent_of({"parent_id": "aFl0w"}) == "aFl0w"
    assert parent_of({"relationships": [8]}) is None


def test_a_post_knows_its_site_by_its_shape(test_data):
    shapes = {"danbooru.post": "danbooru", "danbooru.posts": "danbooru", "gelbooru.posts": "gelbooru", "moebooru.posts": "yandere",
              "sankaku.v2.posts": "sankaku", "e621.posts": "e621"}  # fmt: skip
    for name, site in shapes.items():
        value = json.loads((test_data / "schemas" / "api" / f"{name}.json").read_text())
        posts = value if isinstance(value, list) else value.get("posts") or value.get("post") or [value]
        for post in posts:
            assert site_of(post) == site
            assert [other for other in FAMILIES if is_of(post, other)] == [
                o for o in FAMILIES if FAMILIES[o] == FAMILIES[site]
            ]
    konachan = {"tags": "a b", "jpeg_url": "x", "author": "y"}
    assert site_of(konachan) == "konachan" and site_of(konachan | {"file_url": "https://files.yande.re/x"}) == "yandere"
    assert site_of({"file": {"url": "https://static1.e6ai.net/a.png"}, "relationships": {}}) == "e6ai"
    assert site_of({"text": "1girl", "file_name": "a.png"}) is None
    assert post_at("https://gelbooru.com/index.php?page=post&s=view&id=12&tags=solo") == ("gelbooru", "12")
    assert post_at("https://example.invalid/posts/5") is None


WRONG = [
    *(None, True, 0, -1, 10**40, 1.5, float("nan"), float("inf"), "", "s", "\ud800\udc00x\ud800", "\0"),
    *([], [[]], [None, 5, {"a": []}], ["\udfff"], {}, {"type": [], "name": 5, "tagName": {}}),
    *([{"type": {}, "name": ["x"]}], {"a": {"b": ["c", 5]}}, {"s": "x", "total": []}),
]
KEYS = [
    *("id", "tags", "tag_string", "tag_names", "tags_general", "tag_string_artist", "rating", "score", "total_score"),
    *(
        "created_at",
        "date",
        "create_date",
        "parent_id",
        "relationships",
        "file",
        "md5",
        "url",
        "file_url",
        "illust_ai_type",
    ),
    *(
        "x_restrict",
        "category",
        "generation_directives",
        "text",
        "caption",
        "text_ja",
        "license",
        "origin",
        "source",
        "generator",
    ),
]


def test_a_record_with_wrong_types_never_raises_and_gives_what_a_table_can_hold(tmp_path):
    """3,000 records of random values in random fields, through both readers; what comes out is stored and read back."""
    draw = random.Random(7)
    kept: list[Facts] = []
    for number in range(3_000):
        record = {key: draw.choice(WRONG) for key in draw.sample(KEYS, draw.randint(0, len(KEYS)))}
        site = draw.choice([*FAMILIES, "twitter", ""])
        for facts in (read_post(record, site), read_row(record, language="en")):
            assert all(isinstance(name, str) for names in facts.tags.values() for name in names)
            assert facts.score is None or -(2**63) <= facts.score < 2**63
            json.dumps([vars(facts)], ensure_ascii=False).encode()  # no half of a character, nothing that is no JSON
        if number % 150 == 0:
            kept.append(read_post(record, site))

    class Source:
        name, root = "wrong", tmp_path

        def __iter__(self):
            from animeflow.catalogue.candidate import Candidate

            for number, facts in enumerate(kept):
                yield Candidate(picture(tmp_path / "pictures" / f"{number}.png", number), facts)

    assert counted(tmp_path, Source())["added"] == 20
    assert len(Catalogue(tmp_path / "set" / "catalogue", root=tmp_path).posts()) == 20


def test_a_table_may_have_times_and_bytes(tmp_path):
    import datetime

    picture(tmp_path / "pictures" / "a.png")
    rows = [{"file_name": "a.png", "tags": ["solo"], "date": datetime.datetime(2024, 1, 2, 3, 4, 5), "image": b"\x00"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pictures" / "metadata.parquet")
    (found,) = ImageFolderSource(tmp_path / "pictures")
    assert found.facts.created_at == "2024-01-02T03:04:05+00:00"


def test_a_table_of_something_else_is_no_dump(tmp_path):
    """Its rows would match files by their ids, and give posts without a tag."""
    picture(tmp_path / "pictures" / "17.png")
    (tmp_path / "table.csv").write_text("id,kind,width\n17,sprite,320\n")
    with pytest.raises(DataError, match="it has no tags"):
        list(DanbooruSource(tmp_path / "table.csv", pictures=tmp_path / "pictures"))
