"""From a source to the catalogue: refuse, check, add; every file is counted once. Knows candidates and posts; knows no site."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ..core.engine import Engine
from ..core.files import sha256 as digest_of
from ..core.log import progress
from ..image.picture import Limits
from ..text.blocklist import Blocklist
from .aside import Aside
from .candidate import Candidate, Facts, Source
from .check import Checked, Pool, check_all
from .index import Texts
from .looks import Looks
from .origin import origin_of
from .own import OwnSamples
from .post import Post, uid_of
from .reading import read_file, size_and_time
from .refusals import Refusals
from .said import Said, Statement, joined, origin_by
from .seen import Seen
from .split import split_of
from .table import Catalogue, Rejection

WINDOW = 2048
COMMIT_EVERY = 32_768  # found between two commits, at least
BYTES_DIFFER = "name matches, bytes differ"
WITHDRAWN = "another source"  # so is listed what another source's words put out, until its own source is read again
COMMIT_AT_LEAST_EVERY = 262_144  # what changed since the last one is in memory


@dataclass
class IngestReport:
    """What became of everything a source found: `found == added + known + sum(rejected)`.

    Attributes:
        updated: those of `known` whose facts, or the name of whose file, had changed.
        decoded: files that were opened; the others were unchanged since an earlier run or refused unopened.
        withdrawn: pictures of other sources that left the catalogue, because this one's words forbid the same bytes.
        told: pictures with another origin or evidence now, by what is said of a copy.
        notes: harmless oddities of decoded files, such as a broken colour profile.
    """

    source: str
    found: int = 0
    added: int = 0
    known: int = 0
    updated: int = 0
    decoded: int = 0
    withdrawn: int = 0
    told: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """The report for a person, one line each."""
        known = f"{self.known:,} known" + (f" ({self.updated:,} with new facts)" if self.updated else "")
        lines = [
            f"{self.source}: {self.found:,} found = {self.added:,} added + {known} + {self.rejected.total():,} rejected",
            f"  {self.decoded:,} decoded in {self.seconds:.1f} s",
        ]
        if self.withdrawn:
            lines.append(f"  {self.withdrawn:,} of other sources left: the same bytes are on the blocklist here")
        if self.told:
            lines.append(f"  {self.told:,} have another origin or evidence, by what is said of a copy")
        lines += [f"  rejected {reason:<18} {number:>9,}" for reason, number in self.rejected.most_common()]
        lines += [f"  note     {note:<18} {number:>9,}" for note, number in self.notes.most_common()]
        return lines


def ingest(
    catalogue: Catalogue,
    source: Source,
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    val_share: float = 0.02,
    blocklist: Blocklist | None = None,
    licence: str | None = None,
    snapshot: str | None = None,
    own: OwnSamples | None = None,
    engine: Engine | None = None,
) -> IngestReport:
    """Take every usable picture of `source` into `catalogue` and commit.

    Args:
        workers: processes that decode; 0 for this process, default one per core.
        limits: what a file may cost.
        val_share: share of pictures kept for validation.
        blocklist: the default one unless given; it can be extended, there is no switch for it.
        licence: a note for posts whose source says nothing of theirs.
        snapshot: the date on which the source was taken, for all its posts.
        own: pictures that runs of ours drew; they are refused.
        engine: who decodes, instead of `workers` processes.
    """
    limits = limits or Limits()
    started = time.monotonic()
    name = f"{source.name}:{catalogue.stored_path(source.root)}"
    run = _Run(
        catalogue, limits, val_share, blocklist or Blocklist.default(), IngestReport(source.name), name,
        licence=licence, snapshot=snapshot, own=own,
    )  # fmt: skip
    catalogue.forget_rejections(name)
    catalogue.config |= {"val_share": val_share, "limits": dataclasses.asdict(limits)}
    engine = engine or Engine(workers=os.cpu_count() or 1 if workers is None else workers)
    with contextlib.ExitStack() as stack:
        stack.callback(run.seen.close)
        stack.callback(run.said.close)
        pool = None if engine.in_process else stack.enter_context(Pool(engine))
        advance = stack.enter_context(progress(f"catalogue {source.name}", _length(source, catalogue)))
        itself = catalogue.folder  # a catalogue kept among the pictures does not list itself
        outside = (candidate for candidate in source if not candidate.path.absolute().is_relative_to(itself))
        for window in _windows(outside, WINDOW):
            run.take(window, pool)
            advance(len(window))
            run.save_sometimes()
        run.settle()
        run.save(final=True)
        run.tell()
    run.report.seconds = time.monotonic() - started
    return run.report


class _Run:
    """One reading of one source."""

    def __init__(
        self,
        catalogue: Catalogue,
        limits: Limits,
        val_share: float,
        blocklist: Blocklist,
        report: IngestReport,
        name: str,
        *,
        licence: str | None,
        snapshot: str | None,
        own: OwnSamples | None,
    ) -> None:
        self.catalogue, self.limits, self.val_share = catalogue, limits, val_share
        self.blocklist, self.report, self.name = blocklist, report, name
        self.licence, self.snapshot, self.own = licence, snapshot, own
        self.looks = Looks(catalogue.folder)
        self.seen = Seen(catalogue.folder / "seen.sqlite", limits)
        self.said = Said(catalogue.folder / "said.sqlite", name, lambda: catalogue.iterate("origin <> 'unknown'"))
        self.new_from, self.saved_at = len(catalogue), 0
        self.paths = Texts()
        self.noted = Refusals(catalogue.folder / "noted.jsonl")  # taken all the same
        self.noted.forget(name)
        self.elsewhere, self.forbidden = Aside(), Aside()

    def save(self, *, final: bool = False) -> None:
        self.said.save()  # first: what is said of a post and is not in its row yet is found by the next run
        self._save_verdicts()  # then, for a commit that is refused costs no decoding
        self.catalogue.forget_rejections_at(WITHDRAWN, self.paths.__contains__)
        self.catalogue.commit(final=final)
        self.looks.settle()

    def save_sometimes(self) -> None:
        """A commit writes the whole table, so the distance between two grows with it; what was learned of files is added to what is
        there, and is saved often."""
        if self.looks.full or self.seen.full:
            self._save_verdicts()
        distance = max(COMMIT_EVERY, min(len(self.catalogue) // 4, COMMIT_AT_LEAST_EVERY))
        if self.report.found - self.saved_at >= distance:
            self.saved_at = self.report.found
            self.save()

    def _save_verdicts(self) -> None:
        self.looks.save()
        self.seen.save()  # last: of what is known as seen the looks are there

    def take(self, window: Sequence[Candidate], pool: Pool | None) -> None:
        """Judge a window of candidates; results come in the order of the source, whatever the workers do."""
        refused = [self._refuse(candidate) for candidate in window]
        known = [None if reason else self._known(c) for c, reason in zip(window, refused, strict=True)]
        unknown = [i for i, reason in enumerate(refused) if not reason and known[i] is None]
        results = dict(zip(unknown, check_all([str(window[i].path) for i in unknown], self.limits, pool), strict=True))
        for i, candidate in enumerate(window):
            self.report.found += 1
            if reason := refused[i]:
                self._note(candidate, reason)
                detail = "named by an earlier entry of this source" if reason == "named_twice" else candidate.detail
                self._reject(candidate, reason, detail if reason != "blocked" else "")
                continue
            checked = known[i] or results[i]
            if i in results:
                self.report.decoded += 1
                self.seen.put(self.catalogue.stored_path(candidate.path), checked)
            if checked.reason:
                self._reject(candidate, checked.reason, checked.detail)
                continue
            if self.own is not None and (drawn := self.own.find(checked.sha256, checked.print)):
                self._reject(candidate, "own_sample", f"drawn by a run of ours: {drawn}")
                continue
            self.report.notes.update(checked.notes)
            if candidate.md5 and checked.md5 not in ("", candidate.md5):  # resized, or of another post
                self.report.notes[BYTES_DIFFER] += 1
                path = _storable(self.catalogue.stored_path(candidate.path))
                self.noted.add(Rejection(path, "bytes_differ", f"its record has the md5 {candidate.md5}", self.name))
            self._add(candidate, checked, decoded=i in results)

    def _refuse(self, candidate: Candidate) -> str | None:
        """Why a candidate is not even opened."""
        path, facts = self.catalogue.stored_path(candidate.path), candidate.facts
        if not self.paths.add(path):
            return "named_twice"
        if candidate.reason:
            return candidate.reason
        if path != _storable(path):
            return "bad_name"
        return "blocked" if self._blocks(facts) else None

    def _blocks(self, facts: Facts) -> bool:
        tags = [*facts.surfaces, *(tag for names in facts.tags.values() for tag in names)]
        return self.blocklist.blocks_post(tags, facts.captions.values(), rating=facts.rating)

    def _note(self, candidate: Candidate, reason: str) -> None:
        """What a record says that is refused unopened counts for every copy of its picture; so does a second record of one file."""
        if reason not in ("blocked", "named_twice"):
            return
        facts, path = candidate.facts, _storable(self.catalogue.stored_path(candidate.path))
        said = Statement("", reason == "blocked" or self._blocks(facts), facts.origin, facts.evidence)
        if not said.counts:
            return
        if reason == "named_twice":
            path += f"//{'blocked' if said.blocked else ' '.join((said.origin, *said.evidence))}"
        before = self.said.get(path)
        try:
            size, time = size_and_time(candidate.path)
            if before is not None and (before.bytes, before.mtime_ns) == (size, time):
                sha256 = before.sha256
            elif size <= self.limits.max_bytes:  # a larger one is no source's picture
                known = self._known(candidate)
                sha256 = (known and known.sha256) or digest_of(read_file(candidate.path))
            else:
                return
        except OSError:
            return
        self.said.put(path, dataclasses.replace(said, sha256=sha256, bytes=size, mtime_ns=time))

    def _known(self, candidate: Candidate) -> Checked | None:
        try:
            return self.seen.get(self.catalogue.stored_path(candidate.path), candidate.path)
        except OSError:
            return None  # `check` says what is wrong with it

    def _reject(self, candidate: Candidate, reason: str, detail: str) -> None:
        self._refused(self.catalogue.stored_path(candidate.path), reason, detail)

    def _refused(self, path: str, reason: str, detail: str) -> None:
        if reason != "named_twice":  # if it was good once, it is now broken, blocked or another picture
            self.catalogue.displace(path)
        self.catalogue.reject(Rejection(_storable(path), reason, _storable(detail), self.name))
        self.report.rejected[reason] += 1

    def _add(self, candidate: Candidate, checked: Checked, *, decoded: bool) -> None:
        path, facts, sha256 = self.catalogue.stored_path(candidate.path), candidate.facts, checked.sha256
        said = Statement(sha256, origin=facts.origin, evidence=facts.evidence)
        self.said.put(path, said, alone=self.catalogue.path_of(sha256) in (None, path))
        others = self.said.of(sha256, besides=path)
        post = self._post(candidate, checked, others)
        if any(each.blocked for each in others):
            self.forbidden.add(post)  # by words that may be gone at the end of this source
            return
        self.looks.put(post.uid, checked, decoded=decoded)
        self._place(post)

    def _place(self, post: Post) -> None:
        first = self.catalogue.path_of(post.sha256)
        if first is not None and first != post.path:
            self.catalogue.displace(post.path)
            self.elsewhere.add(post)
            return
        verdict = next(iter(self.catalogue.add([post])))
        self.report.added += verdict == "added"
        self.report.known += verdict != "added"
        self.report.updated += verdict == "updated"

    def settle(self) -> None:
        """When every file has been seen: bytes that are known under another path are a second copy, or a file that was renamed."""
        for post in self.forbidden:
            if any(each.blocked for each in self.said.of(post.sha256)):
                self._refused(post.path, "blocked", "")
                continue
            if (checked := self.seen.get(post.path, self.catalogue.file(post))) is not None:
                self.looks.put(post.uid, checked, decoded=True)
            self._place(post)
        for post in self.elsewhere:
            first = self.catalogue.path_of(post.sha256)
            if first is not None and self._still_at(first, post.sha256):
                self._refused(post.path, "duplicate_file", f"same bytes as {first}")
                continue
            self.said.moved(first)
            self.catalogue.move(post)
            self.report.known += 1
            self.report.updated += 1
        self.said.forget_others(lambda path, sha256: self.catalogue.path_of(sha256) == path)

    def tell(self) -> None:
        """When the table is written: posts of whose bytes something else is said now than when they were made."""
        changed = self.said.changed()
        for post in self.catalogue.of_uids(changed):
            statements = self.said.of(post.sha256)
            if any(each.blocked for each in statements):
                self._withdraw(post)
                continue
            known = origin_by(post, statements)
            if (known.origin, known.evidence) != (post.origin, post.evidence):
                self.catalogue.move(dataclasses.replace(post, origin=known.origin, evidence=known.evidence))
                self.report.told += 1
        if len(changed):
            self.catalogue.commit()
        self.said.settle()
        if self.report.notes[BYTES_DIFFER] or self.noted.file.exists():
            self.noted.write()

    def _withdraw(self, post: Post) -> None:
        is_new = self.catalogue.number_of(post.sha256) >= self.new_from
        self.catalogue.remove(post.sha256)
        here = post.path in self.paths  # a later record of this source said it
        self.catalogue.reject(Rejection(post.path, "blocked", "", self.name if here else WITHDRAWN))
        if not here:
            self.report.withdrawn += 1
            return
        self.report.rejected["blocked"] += 1
        self.report.added -= is_new
        self.report.known -= not is_new

    def _still_at(self, path: str, sha256: str) -> bool:
        """Whether the post of these bytes still has its file. What this run has seen is not read again."""
        if not self.catalogue.has_home(sha256):
            return False
        if path in self.paths:
            return True
        file = self.catalogue.root / path
        try:
            seen = self.seen.get(path, file)
            return (seen.sha256 if seen else digest_of(read_file(file))) == sha256
        except OSError:
            return False

    def _post(self, candidate: Candidate, checked: Checked, others: Sequence[Statement]) -> Post:
        facts, uid = candidate.facts, uid_of(checked.sha256)
        claimed, told = joined(facts.origin, facts.evidence, others)
        known = origin_of(claimed, told, checked.signs, generator=facts.generator)
        return Post(
            uid=uid,
            sha256=checked.sha256,
            path=self.catalogue.stored_path(candidate.path),
            width=checked.width,
            height=checked.height,
            bytes=checked.bytes,
            format=checked.format,
            tags=facts.tags,
            captions=facts.captions,
            rating=facts.rating,
            score=facts.score,
            created_at=facts.created_at,
            source=facts.source or _source_name(self.report.source, facts.site),
            source_id=facts.source_id,
            url=facts.url,
            origin=known.origin,
            truth=facts.truth,
            split=split_of(uid, self.val_share),
            licence=facts.licence or self.licence,
            snapshot=self.snapshot,
            evidence=known.evidence,
            generator=known.generator,
            generation=facts.generation,
            parent=facts.parent,
        )


def _length(source: Source, catalogue: Catalogue) -> int | None:
    """How many candidates there will be, None when that is not known without reading them."""
    if catalogue.folder.is_relative_to(source.root.absolute()):
        return None  # its own files are among those that the source counts
    return operator.length_hint(source) or None


def _storable(text: str) -> str:
    r"""Text for the lists: a file name that is no UTF-8, as archives from elsewhere leave them, has `\udcff` where it is none."""
    return text.encode("utf-8", "backslashreplace").decode()


def _windows(items: Iterable[Candidate], size: int) -> Iterator[list[Candidate]]:
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def _source_name(adapter: str, site: str | None) -> str:
    return adapter if site in (None, adapter) else f"{adapter}/{site}"
