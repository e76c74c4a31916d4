"""Which of the pictures that were found the query takes, before a run is planned with them. Knows catalogues and the selection;
decides nothing itself.

Shards hold what `curate` chooses; a plan that counted the others would train too long, and hold out what is not there.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ...core.errors import DataError
from ..curation import curation, selection
from ..wiring import Workspace
from .found import CURATE, Dropped, Found


def curated(found: Found, config: Mapping[str, Any]) -> Found:
    """What is found, with the pictures that the query leaves out among the dropped; `found` itself where it leaves out none.

    Raises:
        AnimeflowError: the query is wrong, or of a concept none is left.
    """
    catalogue = Workspace.of(dict(config)).catalogue
    there = (catalogue / "catalogue.parquet").is_file()
    if curation(dict(config)).is_open and not there:
        return found
    with _catalogued(found, config, there=there) as complete:
        chosen = selection(complete)
        out = set(chosen.all_uids.tolist()) - set(chosen.uids.tolist())
        left = tuple(
            Dropped(seen.path, CURATE, chosen.why(seen.uid).removeprefix("out: "), seen.uid)
            for group in found.groups
            for seen in group.pictures
            if seen.uid in out
        )
    if not left:
        return found
    groups = tuple(
        replace(group, pictures=tuple(seen for seen in group.pictures if seen.uid not in out)) for group in found.groups
    )
    for group, whole in zip(groups, found.groups, strict=True):
        if not group.pictures and not group.regularisation:
            first = next(each for each in left if each.uid in {seen.uid for seen in whole.pictures})
            raise DataError(
                f"the query takes none of the {len(whole.pictures)} pictures of {group.title}",
                where=str(first.path),
                why=first.detail,
                do="change the rule, or take another query: curate=open takes all that people did not reject",
            )
    kept = tuple(group for group in groups if group.pictures)
    return replace(found, groups=kept, dropped=(*found.dropped, *left))


@contextlib.contextmanager
def _catalogued(found: Found, config: Mapping[str, Any], *, there: bool) -> Iterator[dict[str, Any]]:
    """A config whose catalogue has every picture that was found: the run's own, or one in a folder that is gone after."""
    from ...catalogue.table import Catalogue

    own = Workspace.of(dict(config)).catalogue
    wanted = {seen.uid for group in found.groups for seen in group.pictures}
    if there and wanted <= {post.uid for post in Catalogue(own).posts()}:
        yield dict(config)
        return
    from ..verbs import catalogue

    with tempfile.TemporaryDirectory(prefix="animeflow-") as folder:
        other = {**config, "set": folder}
        place = Workspace.of(other).catalogue
        place.mkdir()
        for log in own.glob("decisions.jsonl"):
            shutil.copyfile(log, place / log.name)
        with _silent(catalogue.log):
            catalogue.collect(other)
        yield other


@contextlib.contextmanager
def _silent(log: logging.Logger) -> Iterator[None]:
    """Without its counts: those of the run come when its pictures are read."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
