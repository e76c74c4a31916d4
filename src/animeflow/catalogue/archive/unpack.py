"""From an archive to a folder: pictures only, names kept, every member counted once. Knows members and files; knows no format.

Beside the pictures lie `unpacked.jsonl`, where each came from, and `refused.jsonl`, what was left out and why. Running it again
writes nothing anew. Nothing is ever written outside of the folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ...core.files import sha256, sha256_file, write_bytes
from ...image.header import sniff
from ...image.panels import panels_of_page
from .caps import BadMember, BrokenArchive, Caps
from .member import Archive, Member, safe_parts, shown
from .reader import is_archive
from .sprites import add_sprites
from .streams import read_up_to
from .tars import RECORD
from .video import VideoArchive

ROWS, REFUSED = "unpacked.jsonl", "refused.jsonl"
MAX_LISTED = 10_000  # of one archive's refused members
QUIET = ("later_frame", "hidden")  # nothing is wrong with these
_SUFFIXES = re.compile(r"(?:\.tar)?\.[A-Za-z0-9]{1,5}$")


@dataclass
class UnpackReport:
    """What became of everything in an archive: `found == written + unchanged + others + sum(refused)`.

    Attributes:
        written, unchanged: pictures, those that lay there already among them. others: members that are no pictures.
        panels: pictures cut out of pages; a page that was cut counts once, as a picture.
        broken: why the archive could not be read to its end.
    """

    archive: str
    kind: str
    found: int = 0
    written: int = 0
    unchanged: int = 0
    others: int = 0
    panels: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    broken: BrokenArchive | None = None

    def lines(self) -> list[str]:
        """The report for a person, one line each."""
        pictures = self.written + self.unchanged
        there = f" ({self.unchanged:,} there already)" if self.unchanged else ""
        cut = f", {self.panels:,} panels cut from them" if self.panels else ""
        left = self.refused.total()
        lines = [
            f"{self.archive} ({self.kind}): {self.found:,} files = {pictures:,} pictures{there} + {self.others:,} that are none "
            f"+ {left:,} left out{cut}"
        ]
        for reason, number in self.refused.most_common():
            lines.append(f"  left out {reason:<14} {number:>7,}  {', '.join(self.examples[reason])}")
        return lines


class Unpacking:
    """One archive on its way into a folder.

    Args:
        archive: as `open_archive` gives it.
        into: the folder, for several archives; this one gets a folder in it.
        caps: what it may cost.
        licence: what the person says of its licence; unsaid, what was said before stays.
        panels: cut pages of comics into their panels.
        dry_run: count, and write nothing.
        advance: told of every member.
    """

    def __init__(
        self, archive: Archive, into: Path, *, caps: Caps, licence: str | None = None, panels: bool = False,
        dry_run: bool = False, advance: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self.archive, self.into, self.caps = archive, into, caps
        self.panels, self.dry_run, self.advance = panels, dry_run, advance or (lambda number: None)
        if isinstance(archive, VideoArchive):  # frames go by long before the first member is there
            archive.advance, self.advance = self.advance, archive.advance
        self.report = UnpackReport(archive.path.name, archive.kind)
        self.digest = sha256_file(archive.path)
        self.old = list(read_rows(into / ROWS))
        mine = [row for row in self.old if row.get("archive_sha256") == self.digest]
        self.licence = licence or (mine[0].get("licence") if mine else None)
        self.folder = self._folder()
        self.rows: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.total, self.taken = 0, set[str]()

    def run(self) -> UnpackReport:
        """Take every picture. A bad member is counted and the others go on; a cut archive gives what came before the cut."""
        try:
            for member in self.archive:
                self.report.found += 1
                try:
                    self._take(member)
                except BadMember as bad:
                    self._refuse(member.name, bad.reason, bad.detail)
                self.advance(1)
        except BrokenArchive as broken:
            self.report.broken = broken
        if self.archive.kind.startswith("rpa"):
            add_sprites(self.rows)
        if not self.dry_run:
            self._write_rows()
        return self.report

    def _folder(self) -> str:
        """The name of the archive without its suffix; with part of its hash where another archive has that name."""
        for row in self.old:
            if row.get("archive_sha256") == self.digest:
                return str(row["file"]).partition("/")[0]
        stem = _SUFFIXES.sub("", self.archive.path.name).lstrip(".") or "archive"
        try:
            safe_parts(stem)
        except BadMember:
            stem = "archive"
        others = {str(row["file"]).partition("/")[0] for row in self.old}
        return f"{stem}-{self.digest[:8]}" if stem in others else stem

    def _take(self, member: Member) -> None:
        parts = safe_parts(member.name)
        if member.reason is not None or member.open is None:
            raise BadMember(member.reason or "unreadable", member.detail)
        if member.name in self.taken:
            raise BadMember("named_twice", "an earlier member has this name")
        self.taken.add(member.name)
        stream = member.open()
        start = read_up_to(stream, RECORD)
        if sniff(start) is None or len(start) < 12:
            if is_archive(start):
                raise BadMember("nested", "an archive or video inside this one; take it out and unpack it by itself")
            self._count(len(start))
            self.report.others += 1
            return
        data = start + read_up_to(stream, self.caps.max_member_bytes + 1 - len(start))
        if len(data) > self.caps.max_member_bytes:
            raise BadMember("too_large", f"over {self.caps.max_member_bytes:,} bytes")
        self._count(len(data))
        data = member.whole(data) if member.whole is not None else data
        cut = panels_of_page(data) if self.panels else []
        if not cut:
            self._keep(parts, data, member, member.facts)
            return
        fresh = False
        for number, (box, png) in enumerate(cut, 1):
            name = f"{Path(parts[-1]).stem}.panel_{number:02d}.png"
            facts = {**member.facts, "panel": number, "panels": len(cut), "box": list(box)}
            fresh |= self._put((*parts[:-1], name), png, member, facts)
        self.report.panels += len(cut)
        self._tell(fresh=fresh)

    def _count(self, size: int) -> None:
        self.total += size
        if self.total > self.caps.max_total_bytes:
            raise BrokenArchive(
                f"over {self.caps.max_total_bytes:,} bytes came out of it",
                where=str(self.archive.path), do="unpack it by hand if that is right, and give the folder to `catalogue`",
            )  # fmt: skip

    def _keep(self, parts: tuple[str, ...], data: bytes, member: Member, facts: Mapping[str, Any]) -> None:
        self._tell(fresh=self._put(parts, data, member, facts))

    def _tell(self, *, fresh: bool) -> None:
        self.report.written += fresh
        self.report.unchanged += not fresh

    def _put(self, parts: tuple[str, ...], data: bytes, member: Member, facts: Mapping[str, Any]) -> bool:
        """Write one picture unless it lies there; whether it was written."""
        digest = sha256(data)
        file = "/".join((self.folder, *parts))
        fresh = self._written(self.into.joinpath(self.folder, *parts), data, digest)
        row = {
            "file": file, "archive": self.archive.path.name, "archive_sha256": self.digest, "member": member.name,
            "kind": self.archive.kind, "sha256": digest, "licence": self.licence, **facts,
        }  # fmt: skip
        self.rows.append(row)
        return fresh

    def _written(self, target: Path, data: bytes, digest: str) -> bool:
        root = self.into / self.folder
        inside = target.parent.resolve().is_relative_to(self.into.resolve() / self.folder)
        if not inside or target.is_symlink() or root.is_symlink():
            raise BadMember("unsafe_name", "a link in the folder leads elsewhere")
        if target.is_file():
            if sha256_file(target) == digest:
                return False
            raise BadMember("name_taken", f"another file is at {self.folder}/{target.relative_to(root)}")
        if target.exists():
            raise BadMember("name_taken", f"a folder is at {self.folder}/{target.relative_to(root)}")
        if not self.dry_run:
            try:
                write_bytes(target, data)
            except (FileExistsError, NotADirectoryError) as error:
                raise BadMember("name_taken", "a folder of its name is a file already") from error
            except OSError as error:
                raise DataError(
                    f"{target} cannot be written: {error.strerror}", do="free some space or give another folder"
                ) from error
        return True

    def _refuse(self, name: str, reason: str, detail: str) -> None:
        name = shown(name)
        self.report.refused[reason] += 1
        examples = self.report.examples.setdefault(reason, [])
        if len(examples) < 2:
            examples.append(f"{name}: {detail}" if not examples and reason not in QUIET else name)
        if len(self.refused) < MAX_LISTED and reason not in QUIET:
            self.refused.append({
                "archive": self.archive.path.name, "archive_sha256": self.digest, "member": name, "reason": reason,
                "detail": detail,
            })  # fmt: skip

    def _write_rows(self) -> None:
        for name, rows, old in (
            (ROWS, self.rows, self.old),
            (REFUSED, self.refused, list(read_rows(self.into / REFUSED))),
        ):
            kept = [row for row in old if row.get("archive_sha256") != self.digest]
            ordered = sorted([*kept, *rows], key=lambda row: (str(row.get("archive")), str(row.get("archive_sha256"))))
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in ordered]
            content, file = "".join(lines).encode("utf-8", "backslashreplace"), self.into / name
            if file.is_file() and hashlib.sha256(content).hexdigest() == sha256_file(file):
                continue
            if content or file.exists():
                write_bytes(file, content)


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of `unpacked.jsonl` or `refused.jsonl`; none where there is no file. Raises DataError for a line that is no row."""
    if not file.is_file():
        return
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if not line:
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"line {number} of {file} is not JSON", why=str(error), do="unpack again into a new folder"
            ) from error
        if not isinstance(row, dict) or not isinstance(row.get("file", ""), str):
            raise DataError(f"line {number} of {file} is no row of ours", do="unpack again into a new folder")
        yield row
