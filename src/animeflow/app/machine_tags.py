"""What taggers said comes into posts, as `annotate.merge` of a config asks; people's tags stay. Knows configs and kept scores."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from ..core.errors import ConfigError, did_you_mean
from .build import build
from .wiring import Config, Workspace

log = logging.getLogger(__name__)


def with_machine_tags(config: Config, posts: Sequence[Any]) -> list[Any]:
    """The posts, with the tags that enough of the named taggers agree on.

    Raises:
        ConfigError: a tagger is named that was never asked.
    """
    from ..annotate.merge import MergePolicy, merged
    from ..annotate.scoring import read_scores, scores_file

    policy = build(MergePolicy, (config.get("annotate") or {}).get("merge"), where="annotate.merge")
    if not policy.use:
        return list(posts)
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
        tags, machine = merged(post.tags, told, policy)
        filled += bool(machine)
        found.append(dataclasses.replace(post, tags=tags) if machine else post)
    log.info("tags of %s: %s of %s pictures got some", ", ".join(policy.use), f"{filled:,}", f"{len(found):,}")
    return found
