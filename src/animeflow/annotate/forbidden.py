"""Pictures that a tagger sees on the blocklist, whether or not its tags are used. Knows kept scores; takes nothing out itself.

Scores order and people decide, and this is the one exception: what may be forbidden waits outside until a person has looked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..catalogue import beside
from ..text.blocklist import Blocklist
from ..text.tags import CATEGORIES

RATING = 0.5  # score from which a tagger's rating is believed here


def forbidden_by(
    folder: Path, blocklist: Blocklist, thresholds: Mapping[str, float], *, ratings: Mapping[int, str] | None = None
) -> dict[int, str]:
    """uid -> the tagger that says so, of the pictures that any tagger puts on the blocklist.

    Args:
        folder: of the catalogue.
        thresholds: score from which a tagger says yes, by category.
        ratings: uid -> rating, where a person gave one: a child in a picture that is rated sexual is forbidden by no word alone.
    """
    found: dict[int, str] = {}
    for file in sorted((folder / "scores").glob("*.parquet")):
        for uid, told in _suspects(file, blocklist, thresholds):
            said = {word.partition(":")[2] for word in told if word.startswith("rating:")} | {
                (ratings or {}).get(uid, "unknown")
            }
            tags = [word.partition(":")[2] for word in told if not word.startswith("rating:")]
            if any(blocklist.blocks_post(tags, rating=rating) for rating in said):
                found.setdefault(uid, file.stem)
    return found


def _suspects(file: Path, blocklist: Blocklist, thresholds: Mapping[str, float]) -> Iterator[tuple[int, list[str]]]:
    """Pictures with a word that alone, or beside a sexual rating, is forbidden; and all that the tagger says of each."""
    judged: dict[str, bool] = {}  # few thousand names, and millions of rows
    uids = [np.empty(0, np.int64)]
    for table in beside.tables(file, beside.SCORES):
        for name in pc.unique(table["name"]).to_pylist():
            kind, _, tag = name.partition(":")
            if name not in judged:
                judged[name] = kind in CATEGORIES and blocklist.blocks_post([tag], rating="explicit")
        names = [name for name, is_so in judged.items() if is_so]
        rows = table.filter(pc.is_in(table["name"], pa.array(names))) if names else table.slice(0, 0)
        uids.append(np.array([uid for uid, _ in _said(rows, thresholds)], np.int64))
    if not len(suspects := np.unique(np.concatenate(uids))):
        return
    told: dict[int, list[str]] = {}
    for table in beside.tables(file, beside.SCORES):
        mine = table.filter(np.isin(table["uid"].to_numpy(), suspects))
        for uid, word in _said(mine, thresholds):
            told.setdefault(uid, []).append(word)
    yield from told.items()


def _said(table: pa.Table, thresholds: Mapping[str, float]) -> Iterator[tuple[int, str]]:
    for uid, word, score in zip(*(table[name].to_pylist() for name in ("uid", "name", "score")), strict=True):
        kind = word.partition(":")[0]
        if score >= (RATING if kind == "rating" else thresholds.get(kind, 1.0)):
            yield uid, word
