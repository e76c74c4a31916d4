"""A folder of pictures with text beside them: NAME.txt and NAME.caption, at any depth. Knows file names and text; decodes nothing.

`.txt` holds tags (separated by commas or lines, `character:` and such prefixes understood), `.caption` holds sentences, and either
may hold the other: what the text looks like decides. `NAME.ja.caption` is a sentence in Japanese. `NAME.mask.png` and
`masks/NAME.png` are the mask of a picture and no picture.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from ...text.script import known_language
from ...text.trigger import kohya_folder, trigger_of
from ..candidate import Candidate, Facts
from ..walk import files_in, is_picture, not_a_picture
from .kohya_meta import Entry, match, read_metadata
from .sidecar import LANGUAGE, read_row, read_text, tell_origin

log = logging.getLogger(__name__)

SIDECARS = (".txt", ".caption")
FOLDER = "folder"  # the name of a source that nobody named
MASK = ".mask"  # the end of a mask's stem
MASKS = "masks"  # the folder of masks
_LANGUAGE = re.compile(rf"\.({LANGUAGE})$")


class FolderSource:
    """Pictures and their sidecars below `root`.

    Args:
        root: the folder.
        name: how posts from it are marked.
        language: of sentences whose file name does not say.
        rating: of pictures whose sidecar does not say.
        origin: human, ai, ai_assisted or unknown, for all of them.
        metadata: kohya's meta_cap.json, meta_lat.json or meta.jsonl. It replaces the text files, and only its pictures are taken.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str = FOLDER,
        language: str = "en",
        rating: str = "unknown",
        origin: str = "unknown",
        metadata: Path | None = None,
    ) -> None:
        self.root, self.name = Path(root), name
        self.metadata = None if metadata is None else Path(metadata)
        self.language = known_language(language, where="catalogue.source.language")
        self.rating, self.origin = rating, origin

    def __iter__(self) -> Iterator[Candidate]:
        folder: Path | None = None
        files: list[Path] = []
        for file in files_in(self.root):
            if file.parent != folder:
                yield from self._folder(files)
                folder, files = file.parent, []
            files.append(file)
        yield from self._folder(files)
        yield from self._entries[1]

    @cached_property
    def _entries(self) -> tuple[dict[Path, Entry], list[Candidate]]:
        """What the metadata says of each picture, and what it says of pictures that are not here."""
        if self.metadata is None:
            return {}, []
        pictures = [file for file in files_in(self.root) if is_picture(file) and not file.stem.endswith(MASK)]
        return match(read_metadata(self.metadata), pictures, root=self.root, metadata=self.metadata)

    def _folder(self, files: list[Path]) -> Iterator[Candidate]:
        """Candidates of one folder: every file is a picture, the sidecar of one, or refused."""
        if files and self.name == FOLDER:  # whoever names its concept says its repeats too
            _hint(files[0].parent)
        if self.metadata is not None:
            own = self.metadata.absolute()
            files = [file for file in files if file.absolute() != own]
        texts = [file for file in files if file.suffix.lower() in SIDECARS]
        others = [file for file in files if file.suffix.lower() not in SIDECARS]
        pictures = [file for file in others if is_picture(file) and not file.stem.endswith(MASK)]
        owners = {name for picture in pictures for name in (picture.name, picture.stem)}
        masked, texts_of, lonely = self._masked(files), *_owned(texts, owners)
        for file in others:
            if (file.stem.removesuffix(MASK) if file.stem.endswith(MASK) else "") in owners or file.stem in masked:
                if file.suffix.lower() != ".png":
                    yield Candidate(file, reason="unknown_format", detail="a mask of a picture has to be a PNG")
                continue
            if file.stem.endswith(MASK) and is_picture(file):
                detail = f"no picture is called {file.stem.removesuffix(MASK)}"
                yield Candidate(file, reason="missing_picture", detail=detail)
            elif file in pictures:
                yield self._candidate(file, sorted({*texts_of[file.name], *texts_of[file.stem]}))
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))
        for text in lonely:
            yield Candidate(text, reason="missing_picture", detail=f"no picture is called {_owner(text)}")

    def _masked(self, files: list[Path]) -> set[str]:
        """Names and stems of the pictures beside this folder, where it is a folder of masks and so holds none of its own."""
        if not files or files[0].parent.name != MASKS or files[0].parent == self.root:
            return set()
        beside = (file for file in files[0].parent.parent.iterdir() if file.is_file() and is_picture(file))
        return {name for file in beside for name in (file.name, file.stem)}

    def _candidate(self, picture: Path, texts: list[Path]) -> Candidate:
        if self.metadata is not None:
            entry = self._entries[0].get(picture)
            if entry is None:
                return Candidate(picture, reason="missing_metadata", detail=f"{self.metadata.name} does not name it")
            row = read_row(entry.row, language=self.language, rating=self.rating, origin=self.origin)
            return Candidate(picture, row)
        facts = Facts(rating=self.rating, origin=self.origin)
        for text in texts:
            try:
                content = text.read_text(encoding="utf-8-sig").strip()
            except UnicodeDecodeError:
                return Candidate(picture, reason="bad_sidecar", detail=f"{text.name} is not UTF-8")
            self._read(text, content, facts)
        tell_origin(facts)
        return Candidate(picture, facts)

    def _read(self, file: Path, content: str, facts: Facts) -> None:
        marked = _LANGUAGE.search(file.stem)
        if marked:
            facts.captions[marked.group(1)] = " ".join(content.split())
        else:
            read_text(content, facts, language=self.language, expected=file.suffix.lower() == ".caption")


def _hint(folder: Path) -> None:
    """Say what a folder's name means to other trainers and does not mean here."""
    if found := kohya_folder(folder.name):
        name = trigger_of(folder.name) or "NAME"
        log.info(
            "the number in the name of '%s' is not read: data.loader.repeats={%s: %d} shows its pictures as often, for a concept "
            "of that name", folder.name, name, found[0],
        )  # fmt: skip


def _owned(texts: list[Path], owners: set[str]) -> tuple[defaultdict[str, list[Path]], list[Path]]:
    """Sidecars by the name or stem of their picture, and those that have none. A name from a Mac may have its accents as signs of
    their own: where none is spelled like the sidecar, one that reads the same is its picture."""
    found, lonely = defaultdict[str, list[Path]](list), []
    alike = defaultdict[str, list[str]](list)
    for name in owners:
        alike[unicodedata.normalize("NFC", name)].append(name)
    for text in texts:
        owner = _owner(text)
        names = [owner] if owner in owners else alike.get(unicodedata.normalize("NFC", owner), [])
        for name in names:
            found[name].append(text)
        if not names:
            lonely.append(text)
    return found, lonely


def _owner(text: Path) -> str:
    """Name or stem of the picture that a sidecar belongs to."""
    return _LANGUAGE.sub("", text.stem)
