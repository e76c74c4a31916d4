"""What taggers said comes into posts, as `annotate.merge` of a config asks; people's tags stay, and pictures that a tagger sees on
the blocklist wait outside. Knows configs and kept scores."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from typing import Any

from ..core.errors import ConfigError, did_you_mean
from ..core.files import atomic_path
from .build import build
from .tag_database import blocklist_of
from .wiring import Config, Workspace

log = logging.getLogger(__name__)

WAITING = "blocked_by_tagger.jsonl"


def with_machine_tags(config: Config, posts: Sequence[Any], *, keep_list: bool = False) -> list[Any]:
    """The posts, with the tags that enough of the named taggers agree on; without those that any tagger sees on the blocklist.

    Args:
        keep_list: write down which these are, beside the catalogue.
    Raises:
        ConfigError: a tagger is named that was never asked.
    """
    from ..annotate.merge import MergePolicy, merged
    from ..annotate.scoring import read_scores, scores_file

    policy = build(MergePolicy, (config.get("annotate") or {}).get("merge"), where="annotate.merge")
    blocklist = blocklist_of(config)
    posts = _without_forbidden(config, posts, policy, blocklist, keep_list=keep_list)
    if not policy.use:
        return posts
    folder, keep = Workspace.of(config).catalogue, config["annotate"]["tagger"]["keep"]
    if (low := [name for name, value in policy.thresholds.items() if value < keep]) and set(low) & set(
        policy.categories
    ):
        log.warning("scores below annotate.tagger.keep=%s are not kept, so a lower threshold finds no more", keep)
    for tool in policy.use:
        if not scores_file(folder, tool).exists():
            known = sorted(file.stem for file in (folder / "scores").glob("*.parquet"))
            raise ConfigError(
                f"no tagger '{tool}' was asked about these pictures{did_you_mean(tool, known)}",
                where="annotate.merge.use",
                do="run 'animeflow annotate tagger' with annotate.tagger.path=FOLDER first",
            )
    scores = {tool: read_scores(folder, tool) for tool in policy.use}
    found, filled = [], 0
    for post in posts:
        told = {tool: rows.get(post.uid, {}) for tool, rows in scores.items()}
        tags, machine = merged(post.tags, told, policy, blocklist=blocklist)
        filled += bool(machine)
        found.append(dataclasses.replace(post, tags=tags) if machine else post)
    log.info("tags of %s: %s of %s pictures got some", ", ".join(policy.use), f"{filled:,}", f"{len(found):,}")
    return found


def _without_forbidden(
    config: Config, posts: Sequence[Any], policy: Any, blocklist: Any, *, keep_list: bool
) -> list[Any]:
    """A model may be wrong, so the picture stays in the catalogue, and a person who keeps it has the last word."""
    from ..annotate.forbidden import forbidden_by
    from ..annotate.merge import THRESHOLDS
    from ..curate.decided import decided
    from ..text.forbidden_words import SEXUAL_RATINGS

    folder = Workspace.of(config).catalogue
    lower = {name: min(value, policy.thresholds.get(name, 1.0)) for name, value in THRESHOLDS.items()}
    ratings = {post.uid: post.rating for post in posts if post.rating in SEXUAL_RATINGS}
    said = forbidden_by(folder, blocklist, lower, ratings=ratings)
    if said:
        told = decided(folder)
        columns = (told[name].to_pylist() for name in ("uid", "review", "disputed"))
        kept = {uid for uid, review, disputed in zip(*columns, strict=True) if review == "keep" and not disputed}
        said = {uid: tool for uid, tool in said.items() if uid not in kept}
    waiting = [post for post in posts if post.uid in said]
    if waiting:
        log.warning(
            "blocked_by_tagger: %s pictures are set aside, for a tagger sees what is forbidden; %s lists them. Look at each: "
            "animeflow decide --reject PICTURE, or --keep PICTURE where the tagger is wrong", f"{len(waiting):,}", folder / WAITING,
        )  # fmt: skip
    if keep_list and (waiting or (folder / WAITING).exists()):
        with atomic_path(folder / WAITING) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as lines:
            for post in waiting:  # which tag it was is not shown
                row = {"path": post.path, "sha256": post.sha256, "tagger": said[post.uid]}
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return [post for post in posts if post.uid not in said]
