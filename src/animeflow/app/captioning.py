"""What a caption policy needs besides its options: the database of tags, the bounds of a set's scores. Knows their files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import DataError
from ..core.files import address, write_json

if TYPE_CHECKING:
    from ..data.place import Place
    from ..data.reader import ShardSet
    from ..text.lexicon import Wordbook
    from ..text.policy import CaptionPolicy

log = logging.getLogger(__name__)
FOLDER = "quality"


def wordbook(database: str | None) -> Wordbook | None:
    """The database that `text.database` names. Raises DataError for a file that is none."""
    if not database:
        return None
    from ..text.database import TagDatabase
    from ..text.lexicon import Wordbook

    found = TagDatabase.open(database)
    return Wordbook(found, identity=found.identity)


def with_bounds(policy: CaptionPolicy, shards: ShardSet, home: Place) -> CaptionPolicy:
    """The policy with the bounds of this set's scores, where it writes labels from scores: those that were written down beside the
    shards, or measured now over all of their posts, which gives the same."""
    if policy.quality != "score":
        return policy
    from ..data.facts import facts_of
    from ..data.place import read_json
    from ..text.quality import Bounds

    asked, name = _asked(policy, shards), _name(policy, shards)
    if (home / FOLDER).size(name) is not None:
        kept = read_json(home / FOLDER, name)
        if kept.get("asked") != asked:
            raise DataError(
                "these bounds of scores are of another set", where=(home / FOLDER).where(name), do="delete it"
            )
        return replace(policy, bounds=Bounds.from_facts(kept))
    log.info("ranking the scores of %s posts", f"{len(shards):,}")
    table = facts_of(shards, ("rating", "score", "year"), uids=shards.uids)
    posts = (_scored(row) for part in table.to_batches(max_chunksize=65_536) for row in part.to_pylist())
    ladders = (policy.quality_words, policy.quality_scores)
    bounds = Bounds.measure(posts, ladders=ladders, smallest=policy.quality_smallest)
    if not bounds.groups:
        log.warning(
            "text.quality=score writes no labels: of these posts fewer than %s have a score", policy.quality_smallest
        )
    return replace(policy, bounds=bounds)


def keep_bounds(policy: CaptionPolicy, shards: ShardSet, folder: Path) -> Path | None:
    """Write the bounds of a policy down beside the shards that they come from; None where it has none."""
    if policy.bounds is None:
        return None
    file = folder / FOLDER / _name(policy, shards)
    if not file.is_file():
        facts = {"asked": _asked(policy, shards), "identity": policy.bounds.identity, **policy.bounds.facts()}
        write_json(file, facts)
    return file


def _scored(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of facts as `Bounds` asks of posts."""
    year = row["year"]
    return {"rating": row["rating"], "score": row["score"], "created_at": None if year is None else f"{year:04d}"}


def _asked(policy: CaptionPolicy, shards: ShardSet) -> dict[str, Any]:
    return {
        "samples": shards.samples_hash,
        "words": dict(policy.quality_words),
        "scores": dict(policy.quality_scores),
        "smallest": policy.quality_smallest,
    }


def _name(policy: CaptionPolicy, shards: ShardSet) -> str:
    return f"{address(**_asked(policy, shards))[:16]}.json"
