"""Lists without a header: tagcomplete's tags, translations beside a tag, `tag=translation`. Knows rows; knows no database."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...core.errors import DataError
from ..script import is_language, language_code, languages_of
from .danbooru import CATEGORIES, E621
from .record import BY_HAND, BY_MACHINE, LISTED_ALIAS, Row, Skipped, Tag, alias, count_of, name_of, translations

_NUMBER = re.compile(r"-?\d+")


def is_tag_list(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows are `name,category,count,"alias,alias"`; a list of extra tags has words in place of the count."""
    wide = [row for row in rows if len(row) >= 3]
    if len(wide) < 0.9 * len(rows) or not wide:
        return False
    return sum(row[1].strip().isdecimal() for row in wide) >= 0.9 * len(wide) and not is_old_translation(rows)


def is_old_translation(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows are `tag,something,translation`, as older lists are."""
    three = [row for row in rows if len(row) == 3]
    return len(three) >= 0.9 * len(rows) > 0 and not any(_NUMBER.fullmatch(row[2].strip()) for row in three)


def tags(rows: Iterable[Sequence[str]]) -> Iterator[Row]:
    rows = list(rows)
    species = any(len(row) > 1 and row[1].strip() in ("7", "8") for row in rows)  # only e621 has these numbers
    categories = E621 if species else CATEGORIES
    for row in rows:
        name = name_of(row[0]) if row else ""
        if not name or len(row) < 2:
            yield Skipped("no name in the row")
            continue
        number = count_of(row[1].strip())
        if number not in categories:
            yield Skipped(f"category {row[1].strip()[:40]!r} is not about a picture")
            continue
        yield Tag(name, categories[number], count_of(row[2].strip()) if len(row) > 2 else None)
        for other in (row[3] if len(row) > 3 else "").split(","):
            yield from alias(name, other.strip(), LISTED_ALIAS)


def translated(rows: Iterable[Sequence[str]], path: Path) -> Iterator[Row]:
    """`tag,translation`. The letters say the language, or the name of the file does: `es.csv`, `pt-BR.mine.txt`."""
    rows = list(rows)
    language = language_in(path) or _language_by_letters(rows, path)
    trust = BY_MACHINE if "machine" in path.name.lower() else BY_HAND
    for row in rows:
        name = name_of(row[0]) if row else ""
        if not name or len(row) < 2:
            yield Skipped("an empty line" if not any(row) else "not a tag and its translation")
        else:
            yield from translations(name, row[-1], language, trust)


def assigned(lines: Iterable[str]) -> Iterator[list[str]]:
    """`tag=translation` as rows; a row of nothing where no sign, or more than one, parts them."""
    for line in lines:
        half = len(line) // 2
        if line.count("=") == 1:
            yield line.split("=")
        elif line[half : half + 1] == "=" and line[:half] == line[half + 1 :]:
            yield [line[:half], line[:half]]  # a face that has the sign itself: `=_=` said twice
        else:
            yield [line]


def language_in(path: Path) -> str | None:
    """The language that a file's name begins or ends with: `pt-BR.words.txt`, `tags_es.csv`."""
    parts = re.split(r"[.\s]|_(?=[A-Za-z]{2}(?:[-_][A-Za-z]{2,4})?\.)", path.name)[:-1]
    return next((language_code(part) for part in parts if is_language(part)), None)


def _language_by_letters(rows: Iterable[Sequence[str]], path: Path) -> str:
    votes: Counter[str] = Counter()
    for row in rows:
        for language in languages_of(row[-1]) if len(row) > 1 else ():
            votes[language] += 1
    votes.pop("zh", None)
    if votes["ja"] and votes["zh-Hans"] + votes["zh-Hant"] > votes["ja"]:
        del votes["ja"]
    if not +votes:
        raise DataError(
            "nothing tells the language of these translations",
            where=str(path),
            do=f"put its code before the file's name: es.{path.name}",
        )
    return votes.most_common(1)[0][0]
