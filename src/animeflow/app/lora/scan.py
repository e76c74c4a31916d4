"""Look through a folder for what a LoRA could learn from. Knows folders, sidecars and the heads of files; writes nothing.

Pictures lie in the folder, or each sub-folder of it is a concept of its own. A sub-folder called `reg` holds pictures of the class.
Pictures are decoded until that would take long; of the others the head is read, and the catalogue decodes them later.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ...catalogue.candidate import Candidate
from ...catalogue.origin import origin_of
from ...catalogue.post import uid_of
from ...catalogue.sources.folder import FolderSource
from ...catalogue.walk import files_in, is_picture, made_in, mask_of
from ...core.errors import DataError
from ...image.decode import decode
from ...image.evidence.screen import screen, written
from ...image.evidence.sign import Sign
from ...image.header import read_header
from ...image.mask import read_mask
from ...image.picture import BadPicture, Limits
from ...text.blocklist import Blocklist
from ...text.trigger import kohya_folder
from .found import CURATE, EMPTY, GENERATED, OTHER, SMALL, Dropped, Found, Group, Seen, allowing

REGULARISATION = ("reg", "regs", "regularisation", "regularization")
MASKS = ("mask", "masks")
DECODED = 150_000_000  # pixels that are decoded before the plan is shown: a few seconds
LEAST = 2  # pictures of a concept
NAMED = 4  # folders that are left alone


def scan(
    folder: Path,
    *,
    decoded: int = DECODED,
    limits: Limits | None = None,
    masks: bool = True,
    blocklist: Blocklist | None = None,
) -> Found:
    """Everything below `folder`.

    Args:
        decoded: pixels of pictures that are decoded; of what is beyond only the head is read.
        masks: look at what tells figures from backgrounds, as shards do with `data.shard.masks=auto`.
        blocklist: the one under which they will be catalogued; default: the project's.
    Raises:
        DataError: it is no folder, or nothing in it can be learned from.
    """
    folder = Path(folder)
    _require_folder(folder)
    reader = _Reader(decoded, limits or Limits(), masks, blocklist or Blocklist.default())
    groups: list[Group] = []
    notes: list[str] = []
    for root, inner, regularisation in _roots(folder):
        title = root.resolve().name
        if kohya := kohya_folder(title):
            title = kohya[1]
        source = FolderSource(root, name=slug(title))
        used = tuple(reader.looked_at(each for each in source if not _within(each.path, root, inner)))
        groups.append(Group(slug(title), title, root, used, regularisation))
    kept = tuple(_named_apart([group for group in groups if group.pictures]))
    for group in kept:
        if kohya := kohya_folder(group.root.resolve().name):
            again = f"data.loader.repeats={{{group.name}: {kohya[0]}}} shows its pictures as often"
            notes.append(f"the {kohya[0]} of {group.root.name} is not read as repeats: {again}")
    if made := [str(each.relative_to(folder)) for each in made_in(folder)]:
        more = f" and {len(made) - NAMED} more" if len(made) > NAMED else ""
        notes.append(f"not read, since runs and sets of animeflow lie there: {', '.join(made[:NAMED])}{more}")
    found = Found(folder, kept, tuple(reader.dropped), tuple(notes))
    if not found.concepts:
        raise _nothing(found)
    return found


def require_enough(found: Found, *, least: int = LEAST) -> None:
    """Raises DataError for a concept with fewer pictures than `least`."""
    for group in found.concepts:
        if len(group.pictures) < least:
            count = "one picture" if len(group.pictures) == 1 else f"{len(group.pictures)} pictures"
            small = [each for each in found.dropped if each.reason in SMALL and each.path.is_relative_to(group.root)]
            if small:
                raise DataError(
                    f"{count} of {group.title}, and {len(small)} that the sizes of this run do not take: {small[0].detail}",
                    where=str(small[0].path),
                    why="enlarged pictures teach blur",
                    do="give larger ones, or allow more: data.shard.max_upscale=2, data.shard.min_side=64",
                )
            out = [
                each
                for each in found.dropped
                if each.reason in (CURATE, GENERATED) and each.path.is_relative_to(group.root)
            ]
            if out:
                allow = f": {each} takes them" if (each := " ".join(allowing(out))) else ""
                raise DataError(
                    f"{count} of {group.title}, and {len(out)} that the query leaves out",
                    where=str(out[0].path),
                    why=out[0].detail,
                    do=f"add others, or change the query{allow}",
                )
            raise DataError(
                f"{count} of {group.title}",
                where=str(group.root),
                why="from one picture the model learns that picture, background and pose with it, not what is in it",
                do="add some: 15 to 30 in different poses and places are good, 5 are few; catalogue.val_share=0 takes even one",
            )


def slug(title: str) -> str:
    """A word of letters, digits and underscores that a config key can bear: `Sylvie Green` -> `sylvie_green`."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    word = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if not word:  # a name in another script: told apart by its hash
        return f"concept_{hashlib.sha256(title.encode()).hexdigest()[:6]}"
    return word if word[0].isalpha() else f"c_{word}"


class _Reader:
    """Judges files one by one; remembers how much it has decoded, what it has seen and what it dropped."""

    def __init__(self, decoded: int, limits: Limits, masks: bool, blocklist: Blocklist) -> None:
        self.masks = masks
        self.left, self.limits, self.blocklist = decoded, limits, blocklist
        self.dropped: list[Dropped] = []
        self._known: set[str] = set()

    def looked_at(self, candidates: Iterable[Candidate]) -> Iterator[Seen]:
        """Those that can be used."""
        for candidate in candidates:
            found = self._look(candidate)
            if isinstance(found, Dropped):
                self.dropped.append(found)
            else:
                yield found

    def _look(self, candidate: Candidate) -> Seen | Dropped:
        path, facts = candidate.path, candidate.facts
        if candidate.reason:
            other = candidate.reason == "unknown_format" and not is_picture(path)
            return Dropped(path, OTHER if other else candidate.reason, candidate.detail)
        tags = tuple(dict.fromkeys(name for names in facts.tags.values() for name in names))
        if self.blocklist.blocks_post([*facts.surfaces, *tags], facts.captions.values(), rating=facts.rating):
            return Dropped(path, "blocked")
        try:
            data = path.read_bytes()
        except OSError as error:
            return Dropped(path, "unreadable", error.strerror or type(error).__name__)
        digest = hashlib.sha256(data).hexdigest()
        if digest in self._known:
            return Dropped(path, "duplicate_file", "the same bytes are here under another name")
        try:
            seen, signs = self._picture(path, data, digest)
        except BadPicture as bad:
            return Dropped(path, bad.reason, bad.detail)
        self._known.add(digest)
        beside = mask_of(path) if self.masks else None
        try:
            masked = self._mask(beside, seen) if beside else seen.masked if self.masks else ""
        except BadPicture as bad:  # the shards refuse its picture too
            return Dropped(path, bad.reason, f"{beside.name if beside else ''}: {bad.detail}", seen.uid)
        words = {"tags": facts.tags, "captions": facts.captions, "rating": facts.rating}
        known = origin_of(facts.origin, facts.evidence, (sign.word for sign in signs))
        sign = known.evidence[0] if known.evidence else ""
        return replace(seen, facts=words, masked=masked, origin=known.origin, sign=sign)

    def _picture(self, path: Path, data: bytes, digest: str) -> tuple[Seen, tuple[Sign, ...]]:
        """What it is, and what in its file speaks of a generator: of one that is not decoded, what is written beside the pixels."""
        head, uid = read_header(data, self.limits), uid_of(digest)
        pixels = (head.height or 0) * (head.width or 0)
        if head.height and head.width and pixels > self.left:
            signs = written(data, head.format, limits=self.limits)
            return Seen(path, uid, head.width, head.height, head.format, proven=False), signs
        picture = decode(data, limits=self.limits)
        facts, alpha = picture.facts, picture.alpha
        self.left -= facts.height * facts.width
        masked = "" if alpha is None else "alpha" if alpha.any() else EMPTY
        seen = Seen(path, uid, facts.width, facts.height, facts.format, masked=masked)
        return seen, screen(data, picture, limits=self.limits)

    def _mask(self, beside: Path, seen: Seen) -> str:
        """What shards will say of it. Raises BadPicture for one that does not fit its picture."""
        if not seen.proven:
            return "sidecar"
        try:
            data = beside.read_bytes()
        except OSError as error:
            raise BadPicture("mask_unreadable", error.strerror or type(error).__name__) from error
        mask = read_mask(data, height=seen.height, width=seen.width, limits=self.limits)
        if mask.min() == 255:
            return ""
        return "sidecar" if mask.any() else EMPTY


def _roots(folder: Path) -> Iterator[tuple[Path, tuple[Path, ...], bool]]:
    """Every group's folder, what lies in it but belongs to another group, and whether it shows the class."""
    made = made_in(folder)
    inner = sorted(e for e in folder.iterdir() if e.is_dir() and not e.name.startswith(".") and e not in made)
    regularisation = [each for each in inner if each.name.lower() in REGULARISATION]
    others = [each for each in inner if each not in regularisation and each.name.lower() not in MASKS]
    # `runs` and `sets` themselves bear no mark, and what lies in them does.
    others = [each for each in others if _holds_pictures(each) or not any(own.is_relative_to(each) for own in made)]
    here = any(_is_subject(each) for each in folder.iterdir() if each.is_file())
    if here or not others or not all(_holds_pictures(each) for each in others):
        yield folder, tuple(regularisation), False
    else:
        yield from ((each, (), False) for each in others)
    yield from ((each, (), True) for each in regularisation)


def _is_subject(file: Path) -> bool:
    return not file.name.startswith(".") and not file.stem.endswith(".mask") and is_picture(file)


def _holds_pictures(folder: Path) -> bool:
    return any(map(_is_subject, files_in(folder)))


def _within(path: Path, root: Path, inner: Sequence[Path]) -> bool:
    """Whether a file is no subject of `root`: it lies in another group's folder, or is a mask."""
    if any(path.is_relative_to(each) for each in inner):
        return True
    return path.stem.endswith(".mask") or any(part.lower() in MASKS for part in path.relative_to(root).parts[:-1])


def _named_apart(groups: Iterable[Group]) -> Iterator[Group]:
    """Names that no two concepts share, since they are keys."""
    taken: set[str] = set()
    for group in groups:
        name, number = group.name, 2
        while name in taken:
            name, number = f"{group.name}_{number}", number + 1
        taken.add(name)
        yield Group(name, group.title, group.root, group.pictures, group.regularisation)


def _require_folder(folder: Path) -> None:
    if folder.is_file():
        raise DataError(
            f"{folder} is a file, not a folder of pictures",
            do="put the pictures into a folder and give that; 'animeflow show FILE' says what a file is",
        )
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", do="check the path: it is read from the folder you are in")


def _nothing(found: Found) -> DataError:
    """Why a folder cannot be learned from: empty, no picture, or none that can be used."""
    reasons = found.reasons
    listed = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in reasons.most_common())
    broken = [each for each in found.dropped if each.reason not in ("missing_picture", OTHER)]
    where = str(found.folder)
    if found.regularisation:
        return DataError("there are regularisation pictures only", where=where, do="put the character's beside them")
    if broken:
        first = broken[0]
        return DataError(
            f"none of the pictures can be used: {listed}",
            where=str(first.path),
            why=f"{first.reason.replace('_', ' ')}{f': {first.detail}' if first.detail else ''}",
            do="replace them; a download that was cut short looks like this",
        )
    if reasons.get("missing_picture"):
        return DataError(
            f"captions, but no picture: {listed}",
            where=where,
            do="put each picture beside its caption, with the same name",
        )
    what = f"there is no picture among {len(found.dropped)} files" if found.dropped else "the folder is empty"
    return DataError(what, where=where, do="put 15 to 30 pictures there, as PNG, JPEG or WebP")
