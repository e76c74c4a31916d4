"""Text that says things of pictures and of tags, with wrong things in it: JSON and its tokens, lines, CSV. Knows values; knows no
layout."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from .archives import NAMES
from .mutate import changed

LONG_DIGITS = "9" * 5000
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 1e308, -0.0, float("nan"), float("inf"), "", " ",
    "\ud800", "a\udfff b", "\0", "x" * 300, "y" * 70_000, "a b " * 3000, ",,,,", "[]", "{}", [], {}, [[]], [{}], [None], [1,
    2], ["\ud800"],
    {"a": {"b": [1]}}, LONG_DIGITS, "-" + LONG_DIGITS, "١٢٣", "²", "1e5", "nan", "0x10", "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00", "2023-02-30", "Sat Feb 25 19:54:00 +9999 2023", "Fri, 31 Dec 9999 23:59:59 -2359", 1e18,
    -62135596801,
    "https://[bad/posts/1", "https://danbooru.donmai.us/posts/" + "9" * 400, "__type", {"__type": "pickle",
    "base64": "gASVKAAA"}, "<script>",
    "AIGC{", "rating:explicit", "@@", ":::", "a:b:c", "日本語", "e\u0301" * 40, "\u202e", "a\u2028b", "a\x85b", "\x1b[2J",
    "\U0001f600", "*NUL", "NaN",
    {"s": 10**20, "n": 0, "json_class": "Time"}, {"total": "x"}, {"total": 10**40}, ["a"] * 5000, {str(n): n for n in range(2000)},
)  # fmt: skip
KEYS = (
    "id", "md5", "tags", "rating", "score", "created_at", "file", "url", "source", "parent_id", "category", "file_name", "caption",
    "caption_ja", "text", "tag_string", "tags_general", "relationships", "illust_ai_type", "x_restrict", "files", "offset", "size",
    "sha256", "length", "filesize", "hash_lfs", "urls", "date", "time", "__type", "base64", "name", "post_count",
    "other_names", "title",
    "antecedent_name", "consequent_name", "licence", "generator", "origin", "language", "confidence", "aliases", "implies",
    "\ud800", "",
    "tag_names", "media_asset", "file_path", "image_path", "success", "posts", "post", "data", "version_of",
    "archive_sha256", "member",
)  # fmt: skip


def text_of(value: Any, draw: Random, *, other: bytes = b"") -> bytes:
    """JSON of `value` with changes in the values, in the tokens, or in the bytes."""
    value = json.loads(json.dumps(value))
    for _ in range(draw.choice([0, 1, 1, 1, 2, 4])):
        value = strange(value, draw)
    text = json.dumps(value, ensure_ascii=draw.random() < 0.5, indent=draw.choice([None, None, 1]))
    return worn(text, draw, other=other)


def lines_of(values: Sequence[Any], draw: Random, *, other: bytes = b"") -> bytes:
    values = [strange(value, draw) if draw.random() < 0.6 else value for value in json.loads(json.dumps(values))]
    lines = [json.dumps(value, ensure_ascii=draw.random() < 0.5) for value in values]
    if draw.random() < 0.2:
        lines.insert(
            draw.randrange(len(lines) + 1),
            draw.choice(["", "{", "null", "[]", "3", "[" * 100_000, "\x85", "\u2028", '"', "nan"]),
        )
    return worn("\n".join(lines) + draw.choice(["\n", "", "\r\n", "\n\n"]), draw, other=other)


def table_of(rows: Sequence[Sequence[Any]], draw: Random, *, sign: str = ",", other: bytes = b"") -> bytes:
    out = io.StringIO()
    made = [list(row) for row in rows]
    for _ in range(draw.choice([0, 1, 1, 2, 4])):
        row = draw.choice(made)
        way = draw.randrange(5)
        if way == 0 and row:
            row.pop(draw.randrange(len(row)))
        elif way == 1:
            row.insert(draw.randrange(len(row) + 1), draw.choice(VALUES))
        elif way == 2:
            made.insert(draw.randrange(len(made)), draw.choice([[], [""], ["", ""], list(row)]))
        elif row:
            row[draw.randrange(len(row))] = draw.choice([*VALUES, "z" * 140_000])
    writer = csv.writer(out, delimiter=sign, quoting=draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer.writerows([[str(cell).replace("\0", "") if cell is not None else "" for cell in row] for row in made])
    return worn(out.getvalue(), draw, other=other)


def worn(text: str, draw: Random, *, other: bytes = b"") -> bytes:
    """The text as bytes, at times with its tokens or bytes changed."""
    if draw.random() < 0.2:
        text = draw.choice(TOKENS)(text, draw)
    encoding = draw.choice(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "cp932", "latin-1"])
    data = text.encode(encoding, "surrogatepass" if encoding == "utf-8" and draw.random() < 0.2 else "replace")
    return changed(data, draw, other=other) if draw.random() < 0.2 else data


def _signs(text: str, draw: Random) -> str:
    places = [at for at, sign in enumerate(text[:20_000]) if sign in '{}[]:,"\\']
    if not places:
        return text
    at = draw.choice(places)
    return text[:at] + draw.choice(["", "{", "}", "[", "]", ",", ":", '"', "\\", "\\ud800", "//", "'"]) + text[at + 1 :]


def _deep(text: str, draw: Random) -> str:
    deep = draw.choice([900, 5000, 200_000])
    opened, closed = draw.choice([("[", "]"), ('{"a":', "}")])
    return opened * deep + draw.choice([text, "1", ""]) + closed * draw.choice([deep, 0])


def _number(text: str, draw: Random) -> str:
    """A number as JSON's own grammar allows it, which no program expects."""
    places = [at for at, sign in enumerate(text[:20_000]) if sign.isdigit()]
    if not places:
        return text
    at = draw.choice(places)
    return (
        text[:at]
        + draw.choice(["1e999", "-1e999", LONG_DIGITS, "NaN", "-Infinity", "1E400", "00", "0.1e-999"])
        + text[at + 1 :]
    )


TOKENS: tuple[Callable[[str, Random], str], ...] = (
    _signs, _signs, _deep, _number, _number,
    lambda text, draw: text * 2,
    lambda text, draw: draw.choice(["", " ", "\n", "null", "[]", "{}", "0", '""', "\ufeff\ufeff{}"]),
    lambda text, draw: text.replace(",", draw.choice(["\n", ",,", "\0,", "\x85"]), 3),
)  # fmt: skip


def strange(value: Any, draw: Random) -> Any:
    """`value` with one thing in it replaced, renamed, left out, repeated or exchanged."""
    if draw.random() < 0.03 or not isinstance(value, dict | list) or not value:
        return _drawn(draw)
    holder = _somewhere(value, draw)
    if isinstance(holder, list):
        at = draw.randrange(len(holder))
        holder[at : at + draw.choice([0, 1, 1])] = draw.choice(
            [[], [_drawn(draw)], [holder[at], copy.deepcopy(holder[at])]]
        )
        return value
    key, way = draw.choice(list(holder)), draw.randrange(7)
    if way == 0:
        del holder[key]
    elif way == 1:
        holder[draw.choice([*KEYS, *NAMES])] = holder.pop(key)
    elif way == 2:
        holder[draw.choice([*KEYS, *holder])] = _drawn(draw)
    elif way == 3:
        other = draw.choice(list(holder))
        holder[key], holder[other] = holder[other], holder[key]
    else:
        holder[key] = _drawn(draw)
    return value


def _drawn(draw: Random) -> Any:
    """A value of its own: what is changed in one case may not be another one's."""
    return copy.deepcopy(draw.choice([*VALUES, *NAMES]))


def _somewhere(value: Any, draw: Random) -> Any:
    """An object or list inside, which is not empty."""
    while True:
        inner = [
            each
            for each in (value.values() if isinstance(value, dict) else value)
            if isinstance(each, dict | list) and each
        ]
        if not inner or draw.random() < 0.35:
            return value
        value = draw.choice(inner)
