"""Folders as every source reads them, with one of their files changed. Knows layouts; knows no reader."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from random import Random
from typing import Any

from .mutate import changed
from .pictures import seeds
from .tables import VALUES, lines_of, strange, table_of, text_of, worn

Files = dict[str, bytes]
TAGS = "1girl solo long_hair smile sylvie_(the_question) the_question"
DATE = "2023-02-25T19:54:00.000+00:00"


def picture() -> bytes:
    return seeds("png")[9]  # of one pixel: what is said of it is what matters here


MD5 = hashlib.md5(picture(), usedforsecurity=False).hexdigest()
DANBOORU = {
    "id": 9000028, "created_at": DATE, "score": 54, "source": "https://example.invalid/a", "md5": MD5, "rating": "g",
    "parent_id": 12,
    "tag_string": TAGS, "tag_string_general": "1girl solo", "tag_string_character": "sylvie_(the_question)",
    "media_asset": {"id": 1},
    "tag_string_copyright": "the_question", "tag_string_artist": "", "tag_string_meta": "highres",
    "file_url": "https://example.invalid/o.png",
}  # fmt: skip
POSTS: dict[str, Any] = {
    "danbooru": DANBOORU,
    "gelbooru": {"id": 28, "created_at": "Sat Feb 25 13:54:00 -0600 2023", "score": 1, "md5": MD5, "directory": "aa/bb",
    "image": "x.png",
                 "rating": "general", "tags": TAGS, "parent_id": 0, "file_url": "https://img.gelbooru.com/x.png"},
    "yandere": {"id": 28, "tags": TAGS, "created_at": 1677354840, "updated_at": 1677354840, "md5": MD5, "rating": "s", "score": 5,
                "jpeg_url": "https://files.yande.re/x.jpg", "file_url": "https://files.yande.re/x.png", "parent_id": None},
    "sankaku": {"id": "aFlowSy1", "rating": "s", "md5": MD5, "created_at": {"json_class": "Time", "s": 1677354840, "n": 0},
    "total_score": 3,
                "tags": [{"id": 1, "name_en": "1girl", "type": 0, "tagName": "1girl"}], "tag_names": ["1girl", "solo"],
                "generation_directives": None, "redirect_to_signup": False, "parent_id": None},
    "e621": {"id": 28, "created_at": DATE, "file": {"md5": MD5, "url": "https://static1.e621.net/x.png", "ext": "png"},
    "rating": "s",
             "score": {"up": 3, "down": 0, "total": 3}, "tags": {"general": ["solo"], "species": ["fox"], "artist": []},
             "relationships": {"parent_id": None, "children": []}},
    "pixiv": {"id": 28, "title": "x", "create_date": DATE, "illust_ai_type": 0, "x_restrict": 0, "tags": ["少女",
    "オリジナル"], "num": 0,
              "sanity_level": 2, "total_bookmarks": 10},
}  # fmt: skip


def _site(draw: Random) -> tuple[str, dict[str, Any]]:
    site = draw.choice(list(POSTS))
    return site, POSTS[site]


def danbooru(draw: Random, other: bytes) -> Files:
    posts = [
        DANBOORU,
        DANBOORU
        | {"id": 7, "md5": "0" * 32, "file_path": draw.choice(["9000028.png", "../outside/secret.png", "x" * 300])},
    ]
    dump = (
        ("posts.jsonl", lines_of(posts, draw, other=other))
        if draw.random() < 0.5
        else ("posts.json", text_of(posts, draw, other=other))
    )
    return {dump[0]: dump[1], "9000028.png": picture()}


def booru_api(draw: Random, other: bytes) -> Files:
    _, post = _site(draw)
    whole = draw.choice(
        [
            [post],
            {"posts": [post]},
            {"@attributes": {}, "post": [post]},
            {"data": [post]},
            {"success": False},
            post,
            {"illusts": [post]},
        ]
    )
    return {
        "posts.json": text_of(whole, draw, other=other),
        f"pictures/{MD5}.png": picture(),
        "pictures/28_p0.png": picture(),
    }


def gallery_dl(draw: Random, other: bytes) -> Files:
    site, post = _site(draw)
    record = post | {
        "category": site,
        "filename": "28",
        "extension": "png",
        "tags_general": ["solo"],
        "date": "2023-02-25 19:54:00",
    }
    name = draw.choice([f"{site}_28_{MD5}.png", "28_p0.png"])
    found = {name: picture()}
    way = draw.randrange(3)
    if way == 0:
        found[f"{name}.json"] = text_of(record, draw, other=other)
    elif way == 1:
        found["data.jsonl"] = lines_of([record, record | {"id": 29}], draw, other=other)
    else:
        found[f"{name}.txt"] = worn("1girl\nsolo\nartist:me\n" + str(draw.choice(VALUES)), draw, other=other)
    return found


def hydrus(draw: Random, other: bytes) -> Files:
    lines = ["character:sylvie", "1girl", "rating:general", "url:x", str(draw.choice(VALUES))]
    if draw.random() < 0.6:
        record = {"tags": lines[:3], "urls": ["https://danbooru.donmai.us/posts/28"], "notes": [], "date": DATE}
        record = draw.choice([record, {"display tags": {"my tags": lines[:3]}, "known urls": "https://x.invalid"}])
        return {"a.png": picture(), "a.png.json": text_of(record, draw, other=other)}
    return {"a.png": picture(), "a.png.txt": worn("\n".join(lines), draw, other=other)}


def imagefolder(draw: Random, other: bytes) -> Files:
    rows = [{"file_name": "a.png", "text": "1girl, solo, hat, smile", "caption_ja": "少女。", "rating": "general",
    "score": 3, "licence": "CC0"},
            {"file_name": draw.choice(["b.png", "../outside/secret.png", "x" * 300 + ".png", "a\0.png", "\ud800.png"]),
            "text": "A girl."}]  # fmt: skip
    found = {"a.png": picture(), "sub/b.png": picture()}
    way = draw.randrange(5)
    if way < 3:
        found["metadata.jsonl"] = lines_of(rows, draw, other=other)
    elif way == 3:
        table = [list(rows[0]), *([str(row.get(key, "")) for key in rows[0]] for row in rows)]
        found["metadata.csv"] = table_of(table, draw, other=other)
    else:
        found["metadata.parquet"] = _parquet(draw, other)
    return found


def _parquet(draw: Random, other: bytes) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(
        pa.table(
            {"file_name": ["a.png", "x" * 300], "tags": [["1girl"], None], "text": ["A girl.", None], "id": [1, 2]}
        ),
        out,
    )
    return changed(out.getvalue(), draw, other=other)


def kohya(draw: Random, other: bytes) -> Files:
    entry = {"caption": "A girl stands.", "tags": "1girl, solo", "train_resolution": [64, 64]}
    found = {"a.png": picture(), "sub/b.png": picture()}
    if draw.random() < 0.5:
        name = draw.choice(["b", "C:\\x\\b.png", "/data/b", "../outside/secret", "y" * 300])
        return found | {"meta_cap.json": text_of({"a": entry, name: entry}, draw, other=other)}
    rows = [
        {"image_path": path, **entry}
        for path in ("a.png", draw.choice(["sub/b.png", "b", "../outside/secret.png", "\ud800"]))
    ]
    return found | {"meta.jsonl": lines_of(rows, draw, other=other)}


def folder(draw: Random, other: bytes) -> Files:
    texts = [
        "1girl, artist:me, @someone, rating:general, copyright:the question",
        "A girl stands in the rain.",
        "少女、帽子",
        ",,,",
        "",
    ]
    found = {"5_mika/a.png": picture()}
    for name in draw.sample(
        ["a.txt", "a.caption", "a.ja.caption", "a.png.txt", "a.en-US.txt", "b.txt"], draw.randrange(1, 4)
    ):
        text = draw.choice(texts) + draw.choice(["", "", "\n", str(draw.choice(VALUES))])
        found[f"5_mika/{name}"] = worn(text, draw, other=other)
    return found


def indexed_tar(draw: Random, other: bytes) -> Files:
    out, index = io.BytesIO(), dict[str, Any]()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        texts = (b"1girl, solo", text_of(POSTS["danbooru"], draw))
        for name, data in (
            ("9000028.png", picture()),
            ("b.png", picture()),
            ("b.txt", texts[0]),
            ("9000028.json", texts[1]),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            index[name] = {"offset": out.tell() - len(data) - -len(data) % 512, "size": len(data)}
            if draw.random() < 0.7:
                index[name]["sha256"] = hashlib.sha256(data).hexdigest()
    data = out.getvalue()
    if draw.random() < 0.3:
        data = changed(data, draw, other=other)
    said = {"filesize": len(data), "hash_lfs": hashlib.sha256(data).hexdigest(), "files": index}
    found = {"tars/0001.tar": data, "tars/0001.json": text_of(said, draw, other=other)}
    if draw.random() < 0.5:
        found["rows.jsonl"] = lines_of([DANBOORU, DANBOORU | {"id": 5}], draw, other=other)
    return found


def waifuc(draw: Random, other: bytes) -> Files:
    record = draw.choice([{"danbooru": DANBOORU, "filename": "a.png", "url": "https://danbooru.donmai.us/posts/28"},
                          {"tags": {"1girl": 0.9, "solo": 0.2}, "url": "https://x.invalid"}, {"tags": ["1girl"],
                          "group_id": "x"}])  # fmt: skip
    return {"a.png": picture(), ".a_meta.json": text_of(record, draw, other=other)}


def unpacked(draw: Random, other: bytes) -> Files:
    row = {"file": "game/a.png", "archive": "game.rpa", "archive_sha256": "0" * 64, "member": "a.png", "kind": "rpa-3.0",
    "sha256": "1" * 64,
           "licence": None, "sprite": "a", "attributes": [], "version_of": "game/b.png"}  # fmt: skip
    rows = [row, row | {"file": draw.choice(["game/b.png", "../outside/secret.png", "/etc/hostname", "x" * 300])}]
    return {"game/a.png": picture(), "game/a.txt": b"1girl", "unpacked.jsonl": lines_of(rows, draw, other=other)}


def toonworld(draw: Random, other: bytes) -> Files:
    line = {
        "file": "0000000.png",
        "index": 0,
        "tags": {"general": ["1girl"], "character": []},
        "captions": {"en": "A girl."},
        "scene": {"seed": 1},
    }
    rows = [line, line | {"file": draw.choice(["0000001.png", "../outside/secret.png", "x" * 300])}]
    found = {"0000000.png": picture(), "truth.jsonl": lines_of(rows, draw, other=other)}
    if draw.random() < 0.3:
        found["planted.jsonl"] = lines_of(
            [line | {"file": "planted/x.png", "planted": {"kind": "copy", "of": None}}], draw, other=other
        )
    return found


SOURCES: dict[str, Callable[[Random, bytes], Files]] = {
    "danbooru": danbooru, "booru_api": booru_api, "gallery_dl": gallery_dl, "hydrus": hydrus, "imagefolder": imagefolder,
    "kohya": kohya,
    "folder": folder, "indexed_tar": indexed_tar, "waifuc": waifuc, "unpacked": unpacked, "toonworld": toonworld,
}  # fmt: skip


def tags(draw: Random, other: bytes) -> Files:
    """A good list, and a second file of any kind that `tags build` reads."""
    rows = [
        ["1girl", "0", "5000000", "1girls,sole_female"],
        ["solo", "0", "4000000", "female_solo"],
        ["hatsune_miku", "4", "90000", "miku"],
    ]
    good = "".join(",".join([*row[:3], f'"{row[3]}"']) + "\n" for row in rows).encode()
    listed = [
        {"name": "hat", "category": 0, "post_count": 9, "is_deprecated": False},
        {"name": "kiss", "category": 3, "post_count": 2},
    ]
    pairs = [{"antecedent_name": "cap", "consequent_name": "hat", "status": "active"}]
    wiki = [{"title": "hat", "other_names": ["帽子", "シルクハット", "gorra"], "is_deleted": False}]
    own = [{"tag": "hat", "category": "general", "ja": "帽子", "aliases": ["cap"], "implies": "clothes", "reviewed": "yes"},
           {"tag": "solo", "surface": "一人", "language": "ja", "kind": "translation", "confidence": 0.8}]  # fmt: skip
    if draw.random() < 0.05:
        own.append(strange(own[0], draw))
    name, data = draw.choice([
        ("tags.json", lambda: text_of(listed, draw, other=other)), ("tags.jsonl", lambda: lines_of(listed, draw, other=other)),
        ("tag_aliases.json", lambda: text_of(pairs, draw, other=other)), ("tag_implications.json", lambda: text_of(pairs,
        draw, other=other)),
        ("wiki_pages.json", lambda: lines_of(wiki, draw, other=other)), ("own.jsonl", lambda: lines_of(own, draw, other=other)),
        ("all.json", lambda: text_of({"tags": listed, "tag_aliases": pairs, "wiki_pages": wiki}, draw, other=other)),
        ("list.csv", lambda: table_of(rows, draw, other=other)), ("es.csv", lambda: table_of([["hat", "sombrero"], ["solo",
        "一人"]], draw, other=other)),
        ("own.csv", lambda: table_of([["tag", "category", "ja", "count"], ["hat", "general", "帽子|ぼうし", "5"]], draw,
        other=other)),
        ("own.tsv", lambda: table_of([["tag", "ja"], ["hat", "帽子"]], draw, sign="\t", other=other)),
        ("zh.txt", lambda: worn("# licence: CC0\nhat=帽子\nsolo=一人\n=_==_=\n" + str(draw.choice(VALUES)), draw, other=other)),
    ])  # fmt: skip
    return {"good.csv": good, name: data()}
