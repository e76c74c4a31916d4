"""Find the same drawing in several files, and versions of one drawing; propose the best of each."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ...core.log import progress
from ..build import build
from ..compose import compose
from ..wiring import Workspace

log = logging.getLogger(__name__)

SHOWN = 40  # groups of a sheet
ACROSS = 8  # pictures of a group on a sheet
NAMED = 22  # letters of a file's name there


def run(overrides: Sequence[str], *, dry_run: bool = False, sheet: str | None = None) -> None:
    group(compose(overrides), dry_run=dry_run, sheet=sheet)


def group(config: dict[str, Any], *, dry_run: bool = False, sheet: str | None = None) -> Any:
    """The members of all groups. A dry run says how many pairs would be looked at, and writes nothing."""
    from ...catalogue.table import Catalogue
    from ...curate import groups
    from ...curate.candidates import candidates
    from ...curate.known import fingerprints
    from ...curate.prints import Prints
    from ...curate.verdicts import Verdicts
    from ...image.picture import Limits

    place, node = Workspace.to_write(config), config["catalogue"]
    catalogue = Catalogue(place.catalogue)
    if not len(catalogue):
        raise DataError("the catalogue is empty", where=str(place.catalogue), do="run 'animeflow catalogue' first")
    limits = build(Limits, node["limits"], where="catalogue.limits")
    files: dict[int, str] = {}
    facts: dict[int, groups.Facts] = {}
    for post in catalogue.iterate():
        files[post.uid] = str(catalogue.file(post))
        told = sum(map(len, post.tags.values())) + len(post.captions)
        facts[post.uid] = groups.Facts(post.uid, post.width * post.height, post.format, post.bytes, told)
    with progress("fingerprints", len(files)) as advance:
        known = fingerprints(
            catalogue.folder, files, workers=node["workers"], limits=limits, keep=not dry_run, advance=advance
        )
    prints = Prints.of(known.items())
    pairs = [(int(prints.uids[a]), int(prints.uids[b])) for a, b in candidates(prints)]
    twins = prints.twins()
    file = None if dry_run else catalogue.folder / "verdicts.parquet"
    with Verdicts(file, known, files, workers=node["workers"], limits=limits) as verdicts:
        new = verdicts.unknown(pairs)
        log.info("%s pairs are worth a look; %s were not looked at before", f"{len(pairs):,}", f"{len(new):,}")
        if dry_run:
            log.info("%s pictures have the pixels of another one", f"{sum(map(len, twins)) - len(twins):,}")
            return []
        with progress("pairs", len(new)) as advance:
            verdicts.look(pairs, advance=advance)
        members = groups.group(facts, twins, pairs, verdicts.look)
    groups.write(catalogue.folder, members)
    _tell(members, len(files))
    log.info("the groups: %s", catalogue.folder / groups.FILE)
    if sheet is not None:
        _draw(Path(sheet), members, files, limits)
    return members


def _tell(members: Sequence[Any], pictures: int) -> None:
    """Counts in words."""
    for kind, meaning in (("duplicate", "files of one drawing"), ("variant", "versions of one drawing")):
        mine = [member for member in members if member.kind == kind]
        sets = len({member.group for member in mine})
        relations = Counter(member.relation for member in mine if member.relation != "best")
        parts = ", ".join(f"{count:,} {relation}" for relation, count in sorted(relations.items()))
        log.info(
            "%s (%s): %s groups with %s of %s pictures%s",
            *(meaning, kind, f"{sets:,}", f"{len(mine):,}", f"{pictures:,}", f": {parts}" if parts else ""),
        )


def _draw(file: Path, members: Sequence[Any], files: dict[int, str], limits: Any) -> None:
    """A row for each group, the best picture first; below each its file and what it is to the best."""
    from ...catalogue.reading import read_file
    from ...core.files import write_bytes
    from ...image.decode import decode
    from ...image.encode import encode_png
    from ...image.perceptual import shrunk
    from ...sample.sheet import contact_sheet

    rows: dict[tuple[str, int], list[Any]] = {}
    for member in members:
        rows.setdefault((member.kind, member.group), []).append(member)
    if not rows:
        log.info("no groups, so no sheet")
        return
    pictures, labels, names = [], [], []
    for (kind, group), whole in list(rows.items())[:SHOWN]:
        mine = sorted(whole, key=lambda member: (member.uid != group, member.relation, member.uid))[:ACROSS]
        pictures.append([shrunk(decode(read_file(files[m.uid]), limits=limits).pixels, 320) for m in mine])
        names.append([f"{_shortened(Path(files[m.uid]).name)} {m.relation}" for m in mine])
        labels.append(f"{kind}, {len(whole)} files" + (f", {len(mine)} shown" if len(whole) > len(mine) else ""))
    pixels = contact_sheet(pictures, row_labels=labels, cell_labels=names, title="Groups, the best first", cell=160)
    write_bytes(file, encode_png(pixels))
    log.info("drawn: %s%s", file, f" (the first {SHOWN} groups)" if len(rows) > SHOWN else "")


def _shortened(name: str) -> str:
    """A file's name that fits below its picture: its beginning, and its end, where numbers and the format are."""
    return name if len(name) <= NAMED else f"{name[: NAMED // 2 - 1]}…{name[-(NAMED // 2) :]}"
