"""Where a case is brought to: the entry points of the program that read files of strangers. Knows them by name; judges by what
they give back.

An outcome is taken, refused (with a reason), or error (an AnimeflowError, which says what to do). Whatever else comes out of a door
is the caller's to see: it is a finding.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from animeflow.catalogue.archive.caps import MIB, Caps
from animeflow.catalogue.archive.reader import open_archive
from animeflow.catalogue.archive.unpack import Unpacking, UnpackReport
from animeflow.catalogue.check import check
from animeflow.catalogue.ingest import ingest
from animeflow.catalogue.sources.danbooru import DanbooruSource, booru_api
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.sources.gallery_dl import GalleryDlSource
from animeflow.catalogue.sources.hydrus import HydrusSource
from animeflow.catalogue.sources.imagefolder import ImageFolderSource
from animeflow.catalogue.sources.indexed_tar import IndexedTarSource
from animeflow.catalogue.sources.toonworld import ToonworldSource
from animeflow.catalogue.sources.unpacked import UnpackedSource
from animeflow.catalogue.sources.waifuc import WaifucSource
from animeflow.catalogue.table import Catalogue
from animeflow.core.errors import AnimeflowError
from animeflow.image.fingerprint import Fingerprint
from animeflow.image.picture import Limits
from animeflow.text.database import TagDatabase
from animeflow.text.importers.build import build

from .cases import Case

LIMITS = Limits(max_pixels=16_000_000)
CAPS = dataclasses.replace(Caps(), max_total_bytes=512 * MIB)
Outcome = tuple[str, str]  # taken, refused or error; the reason


class Broken(Exception):
    """A door said something that cannot be true."""


def bring(case: Case, given: Path, target: Path) -> Outcome:
    """The case's files lie in `given`; what is made of them may be written below `target` and nowhere else."""
    try:
        if case.door == "picture":
            return picture(given / next(iter(case.files)))
        if case.door == "unpack":
            return unpack(case, given, target)
        if case.door == "tags":
            return tags(sorted(given / name for name in case.files), target)
        return source(SOURCES[case.door](given), given, target)
    except AnimeflowError as error:
        if case.door == "picture":
            raise  # `check` never raises for what is wrong with a file
        _printable(str(error))
        return "error", type(error).__name__


def picture(file: Path) -> Outcome:
    checked = check(str(file), LIMITS)
    _printable(checked.detail)
    if checked.reason is not None:
        return "refused", checked.reason
    if not checked.print or checked.height * checked.width > LIMITS.max_pixels:
        raise Broken(f"a picture was taken without a fingerprint, or above the limits: {checked}")
    Fingerprint.unpack(checked.print)
    if any(not 0 <= value <= 1 for _, value in checked.measures):
        raise Broken(f"a measure is not between 0 and 1: {checked.measures}")
    return "taken", checked.format


def unpack(case: Case, given: Path, target: Path) -> Outcome:
    """Unpack, and read what came out as a source does."""
    report = _unpacked(case, given / case.options["file"], target)
    if case.options["again"]:
        again = _unpacked(case, given / case.options["file"], target)
        if (again.found, again.written) != (report.found, 0):
            raise Broken(f"a second run found {again.found} and wrote {again.written}, the first found {report.found}")
    if (target / "unpacked.jsonl").is_file():
        for candidate in UnpackedSource(target):
            if candidate.reason in (None, "missing_picture", "bad_sidecar") and not candidate.path.is_file():
                raise Broken(f"a row of ours names what is not there: {candidate}")
    if report.broken is not None:
        return "error", "BrokenArchive"
    return ("taken", report.kind) if not report.refused.total() else ("refused", next(iter(report.refused)))


def _unpacked(case: Case, file: Path, target: Path) -> UnpackReport:
    archive = open_archive(file, CAPS, every_frame=case.options["all_frames"])
    report = Unpacking(archive, target, caps=CAPS, panels=case.options["panels"]).run()
    if report.found != report.written + report.unchanged + report.others + report.refused.total():
        raise Broken(f"members are lost: {report}")
    _printable(" ".join(report.lines()).replace("\n", " "))
    return report


def _kohya(given: Path) -> FolderSource:
    return FolderSource(given, metadata=next(given.glob("meta*")))


def _tars(given: Path) -> IndexedTarSource:
    rows = given / "rows.jsonl"
    return IndexedTarSource(given / "tars", posts=rows if rows.exists() else None)


SOURCES: dict[str, Any] = {
    "danbooru": lambda given: DanbooruSource(next(given.glob("posts.*"))),
    "booru_api": lambda given: booru_api(given / "posts.json", pictures=given / "pictures"),
    "gallery_dl": GalleryDlSource, "hydrus": HydrusSource, "imagefolder": ImageFolderSource, "kohya": _kohya,
    "folder": FolderSource,
    "indexed_tar": _tars, "waifuc": WaifucSource, "unpacked": UnpackedSource, "toonworld": ToonworldSource,
}  # fmt: skip


def source(pictures: Any, given: Path, target: Path) -> Outcome:
    """Through the whole of `catalogue`, to the tables that are written and read again."""
    folder = target / "catalogue"
    report = ingest(Catalogue(folder, root=given), pictures, workers=0, limits=LIMITS)
    if report.found != report.added + report.known + report.rejected.total():
        raise Broken(f"candidates are lost: {report}")
    posts = Catalogue(folder, root=given).posts()
    if len(posts) != report.added:
        raise Broken(f"{report.added} were added and {len(posts)} can be read")
    for post in posts:
        if not (given / str(post.path).split("!")[0]).resolve().is_relative_to(given.resolve()):
            raise Broken(f"a post outside of the folder was taken: {post.path}")
    for line in _lines(folder / "rejected.jsonl"):
        json.loads(line)
    return ("taken", pictures.name) if report.added else ("refused", next(iter(report.rejected), "nothing found"))


def _lines(file: Path) -> Iterator[str]:
    if file.is_file():
        yield from (line for line in file.read_text(encoding="utf-8").split("\n") if line)


def tags(files: list[Path], target: Path) -> Outcome:
    report = build(files, target / "tags.db")
    _printable(" ".join(report.lines()).replace("\n", " "))
    database = TagDatabase.open(target / "tags.db")
    for surface, _ in database.surfaces():
        database.resolve(surface)
    shutil.copyfile(target / "tags.db", target / "before.db")
    if build(files, target / "tags.db").changed:
        raise Broken("the same files changed the database again")
    return "taken", report.files[-1].kind


def _printable(text: str) -> None:
    """What a person is shown can be shown: it is encodable, and it moves no cursor."""
    text.encode("utf-8")
    if "\x1b" in text:
        raise Broken(f"an escape sequence goes to the terminal: {text!r}")
