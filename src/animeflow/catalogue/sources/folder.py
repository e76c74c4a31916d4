"""A folder of pictures with text beside them: NAME.txt and NAME.caption, at any depth. Knows file names and text; decodes nothing.

`.txt` holds tags (separated by commas or lines, `character:` and such prefixes understood), `.caption` holds sentences, and either
may hold the other: what the text looks like decides. `NAME.ja.caption` is a sentence in Japanese. `NAME.mask.png` and
`masks/NAME.png` are the mask of a picture and no picture.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...text.tags import CATEGORY_WORDS, empty_tags, rating_of, split_sidecar
from ...text.trigger import kohya_folder, trigger_of
from ..candidate import Candidate, Facts
from ..walk import files_in, is_picture, not_a_picture

log = logging.getLogger(__name__)

SIDECARS = (".txt", ".caption")
FOLDER = "folder"  # the name of a source that nobody named
MASK = ".mask"  # the end of a mask's stem
MASKS = "masks"  # the folder of masks
_LANGUAGE = re.compile(r"\.([a-z]{2}(?:-[A-Za-z]{2,4})?)$")
_NAMESPACES = {**CATEGORY_WORDS, "creator": "artist"}
_END = (".", "!", "?", "。", "！", "？")


class FolderSource:
    """Pictures and their sidecars below `root`.

    Args:
        root: the folder.
        name: how posts from it are marked.
        language: of sentences whose file name does not say.
        rating: of pictures whose sidecar does not say.
        origin: human, ai, ai_assisted or unknown, for all of them.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str = FOLDER,
        language: str = "en",
        rating: str = "unknown",
        origin: str = "unknown",
    ) -> None:
        self.root, self.name = Path(root), name
        self.language, self.rating, self.origin = language, rating, origin

    def __iter__(self) -> Iterator[Candidate]:
        folder: Path | None = None
        files: list[Path] = []
        for file in files_in(self.root):
            if file.parent != folder:
                yield from self._folder(files)
                folder, files = file.parent, []
            files.append(file)
        yield from self._folder(files)

    def _folder(self, files: list[Path]) -> Iterator[Candidate]:
        """Candidates of one folder: every file is a picture, the sidecar of one, or refused."""
        if files and self.name == FOLDER:  # whoever names its concept says its repeats too
            _hint(files[0].parent)
        texts = [file for file in files if file.suffix.lower() in SIDECARS]
        others = [file for file in files if file.suffix.lower() not in SIDECARS]
        pictures = [file for file in others if is_picture(file) and not file.stem.endswith(MASK)]
        owners = {name for picture in pictures for name in (picture.name, picture.stem)}
        masked = self._masked(files)
        for file in others:
            if (file.stem.removesuffix(MASK) if file.stem.endswith(MASK) else "") in owners or file.stem in masked:
                if file.suffix.lower() != ".png":
                    yield Candidate(file, reason="unknown_format", detail="a mask of a picture has to be a PNG")
                continue
            if file.stem.endswith(MASK) and is_picture(file):
                detail = f"no picture is called {file.stem.removesuffix(MASK)}"
                yield Candidate(file, reason="missing_picture", detail=detail)
            elif file in pictures:
                yield self._candidate(file, [text for text in texts if _owner(text) in (file.name, file.stem)])
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))
        for text in texts:
            if _owner(text) not in owners:
                yield Candidate(text, reason="missing_picture", detail=f"no picture is called {_owner(text)}")

    def _masked(self, files: list[Path]) -> set[str]:
        """Names and stems of the pictures beside this folder, where it is a folder of masks and so holds none of its own."""
        if not files or files[0].parent.name != MASKS or files[0].parent == self.root:
            return set()
        beside = (file for file in files[0].parent.parent.iterdir() if file.is_file() and is_picture(file))
        return {name for file in beside for name in (file.name, file.stem)}

    def _candidate(self, picture: Path, texts: list[Path]) -> Candidate:
        facts = Facts(rating=self.rating, origin=self.origin)
        for text in texts:
            try:
                content = text.read_text(encoding="utf-8-sig").strip()
            except UnicodeDecodeError:
                return Candidate(picture, reason="bad_sidecar", detail=f"{text.name} is not UTF-8")
            self._read(text, content, facts)
        return Candidate(picture, facts)

    def _read(self, file: Path, content: str, facts: Facts) -> None:
        marked = _LANGUAGE.search(file.stem)
        if marked or is_sentence(content, expected=file.suffix.lower() == ".caption"):
            language = marked.group(1) if marked else self.language
            facts.captions[language] = " ".join(content.split())
        else:
            read_tags(split_sidecar(content), facts)


def _hint(folder: Path) -> None:
    """Say what a folder's name means to other trainers and does not mean here."""
    if found := kohya_folder(folder.name):
        name = trigger_of(folder.name) or "NAME"
        log.info(
            "the number in the name of '%s' is not read: data.loader.repeats={%s: %d} shows its pictures as often, for a concept "
            "of that name", folder.name, name, found[0],
        )  # fmt: skip


def _owner(text: Path) -> str:
    """Name or stem of the picture that a sidecar belongs to."""
    return _LANGUAGE.sub("", text.stem)


def is_sentence(text: str, *, expected: bool) -> bool:
    """Whether text is sentences rather than tags: long pieces between commas, or an end mark after words.

    Args:
        expected: what to believe of a text that could be either.
    """
    pieces = [piece.split() for piece in re.split(r"[,\n、，]", text) if piece.strip()]
    if not pieces:
        return False
    mean = sum(map(len, pieces)) / len(pieces)
    if text.rstrip().endswith(_END) and (mean > 2 or len(pieces) == 1):
        return True
    if len(pieces) >= 4 and mean <= 2.5:
        return False
    return expected or mean > 6


def read_tags(names: Iterable[str], facts: Facts) -> None:
    """Sort names into categories by their prefix (`artist:x`, `rating:general`, Anima's `@x` for an artist); others are general."""
    tags = facts.tags or empty_tags()
    for name in names:
        space, colon, rest = name.partition(":")
        rest = rest.strip("_")
        if colon and rest and space == "rating":
            facts.rating = rating_of(rest, site="folder")
        elif colon and rest and space in _NAMESPACES:
            category = _NAMESPACES[space]
            if category:
                tags[category].append(rest)
        elif name.startswith("@") and name.strip("@_"):  # but `@_@` is a face
            tags["artist"].append(name.removeprefix("@"))
        else:
            tags["general"].append(name)
    facts.tags = {category: list(dict.fromkeys(found)) for category, found in tags.items()}
    facts.surfaces += tuple(names)
