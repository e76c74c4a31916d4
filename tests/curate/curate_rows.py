"""Catalogues of drawn facts, without pictures: what queries and decisions are tried on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from animeflow.catalogue import beside
from animeflow.catalogue.post import ORIGINS, Post, uid_of
from animeflow.catalogue.table import Catalogue

GROUPS = pa.schema(
    [
        ("uid", pa.int64()),
        ("group", pa.int64()),
        ("kind", pa.string()),
        ("relation", pa.string()),
        ("score", pa.float32()),
    ]
)


def sha(number: int) -> str:
    return hashlib.sha256(f"picture {number}".encode()).hexdigest()


def uid(number: int) -> int:
    return uid_of(sha(number))


def post(number: int, **facts: Any) -> Post:
    """Number n: n % 5 is its origin, 100 + n its width, `solo` when odd, one character of seven."""
    tags = {
        "general": ["1girl", *(["solo"] if number % 2 else [])], "character": [f"hero_{number % 7}"],
        "copyright": ["tale"], "artist": [f"painter_{number % 3}"], "meta": [],
    }  # fmt: skip
    told: dict[str, Any] = {
        "uid": uid(number), "sha256": sha(number), "path": f"pictures/{number:04}.png", "width": 100 + number, "height": 200,
        "bytes": 1000 + number, "format": "PNG", "tags": tags, "captions": {}, "rating": "general", "score": number,
        "created_at": f"{2000 + number % 20}-01-01T00:00:00Z", "source": "folder", "source_id": str(number), "url": None,
        "origin": ORIGINS[number % 5], "truth": None, "split": "train",
    }  # fmt: skip
    return Post(**told | facts)


def catalogue(folder: Path, posts: Iterable[Post]) -> Catalogue:
    made = Catalogue(folder)
    made.add(posts)
    made.commit()
    return made


def put_groups(folder: Path, *groups: tuple[str, Sequence[int]]) -> None:
    """Each a kind and numbers, the best one first."""
    rows = [
        {"uid": uid(number), "group": uid(numbers[0]), "kind": kind, "relation": "best" if number == numbers[0] else "resized",
         "score": 1.0}
        for kind, numbers in groups for number in numbers
    ]  # fmt: skip
    beside.put(folder / "groups.parquet", GROUPS, rows)


def put_scores(folder: Path, tool: str, name: str, scores: dict[int, float]) -> None:
    rows = [{"uid": uid(number), "name": name, "score": score} for number, score in scores.items()]
    beside.put(folder / "scores" / f"{tool}.parquet", beside.SCORES, rows)
