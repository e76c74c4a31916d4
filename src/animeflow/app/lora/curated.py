"""Which of the pictures that were found the query takes, before a run is planned with them. Knows catalogues and the selection;
decides nothing itself.

Shards hold what `curate` chooses; a plan that counted the others would train too long, and hold out what is not there.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...core.errors import DataError
from ...curate.query import SYNTHETIC
from ...curate.statement import WORDS
from ..curation import curation, requirements, selection
from ..wiring import Workspace
from .found import CURATE, GENERATED, Dropped, Found, Group, allowing


def curated(found: Found, config: Mapping[str, Any]) -> Found:
    """What is found, with the pictures that the query leaves out among the dropped; `found` itself where it leaves out none.

    Raises:
        AnimeflowError: the query is wrong, of a concept none is left, or the pictures lack what `curate.require` asks of shards.
    """
    from ...curate.statement import Requirements, insist, statement_of

    required = requirements(dict(config)).of_shards
    there = (Workspace.of(dict(config)).catalogue / "catalogue.parquet").is_file()
    if not there and required == Requirements(origin=False) and _takes_all(curation(dict(config)), found, config):
        return found
    with _catalogued(found, config, there=there) as complete:
        chosen = selection(complete)
        left = tuple(_left_out(found, chosen))
        kept = replace(found, groups=_without(found, left), dropped=(*found.dropped, *left)) if left else found
        if len(chosen):  # pictures that cannot be decoded are told of where they are read
            insist(statement_of(chosen, require=required))
    return kept


def _takes_all(query: Any, found: Found, config: Mapping[str, Any]) -> bool:
    """Whether a query leaves nothing out, as far as files, sidecars and settings speak: then no catalogue is made to ask it."""
    named = config["catalogue"]["source"].get("concepts") or {}
    origins = {(named.get(group.name) or {}).get("origin", "unknown") for group in found.groups}
    origins |= {seen.origin for group in found.groups for seen in group.pictures}
    forbidden = {origin for origin, policy in query.provenance.items() if policy.forbidden}
    return bool(query.asks_for_origins_alone) and not origins & forbidden


def _left_out(found: Found, chosen: Any) -> Iterator[Dropped]:
    """Pictures that the query leaves out; of those that are generated, with what says so and what takes them."""
    steps = {
        uid: chosen.steps[step]
        for uid, step in zip(chosen.all_uids.tolist(), chosen.step_of.tolist(), strict=True)
        if chosen.steps[step].action == "drop"
    }
    for seen in (seen for group in found.groups for seen in group.pictures if seen.uid in steps):
        origin = steps[seen.uid].name.removeprefix("origin.")
        why = chosen.why(seen.uid).removeprefix("out: ")
        if origin in SYNTHETIC:
            allow = f"curate.provenance.{origin}=allow"
            yield Dropped(seen.path, GENERATED, f"{WORDS[origin]}: {seen.sign or why}", seen.uid, allow)
        else:
            yield Dropped(seen.path, CURATE, why, seen.uid)


def _without(found: Found, left: Sequence[Dropped]) -> tuple[Group, ...]:
    """The groups that are left. Raises DataError where a concept has no picture any more."""
    out = {each.uid: each for each in left}
    groups = []
    for group in found.groups:
        pictures = tuple(seen for seen in group.pictures if seen.uid not in out)
        if not pictures and not group.regularisation:
            theirs = [out[seen.uid] for seen in group.pictures]
            takes = " ".join(allowing(theirs))
            raise DataError(
                f"the query takes none of the {len(theirs)} pictures of {group.title}",
                where=str(theirs[0].path),
                why=theirs[0].detail,
                do=f"{takes} takes those that a generator made"
                if takes
                else "change the rule, or take another query: "
                "curate=open takes all that people did not reject and no generator made",
            )
        groups += [replace(group, pictures=pictures)] if pictures else []
    return tuple(groups)


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
