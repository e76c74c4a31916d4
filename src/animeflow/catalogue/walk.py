"""What lies in a folder: pictures, their masks, sidecars, other things. Knows names and the first bytes; decodes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import DataError
from ..image.header import sniff

PICTURE_SUFFIXES = frozenset(
    [".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif"]
)  # the content decides in the end
# Of a run its command, its end or its words, of a set its catalogue or shards: no user's folder of pictures has one of these.
MADE = ("command.json", "EXIT.json", "lora.words", "catalogue/catalogue.parquet", "shards/manifest.json")


def files_in(root: Path) -> Iterator[Path]:
    """Every file below `root` in a fixed order; names that begin with a dot are left alone, links to folders are not followed, and
    what a run or set of ours left below it (`made_in`) is no file of the user's."""
    if not root.is_dir():
        raise DataError(f"there is no folder {root}", do="check the path of the source")
    for folder, folders, names in os.walk(root):
        folders[:] = _sound(Path(folder), folders)
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def made_in(root: Path) -> list[Path]:
    """Folders of runs and sets below `root`: their samples and sheets are drawn by a model and teach nothing."""
    found: list[Path] = []
    for folder, folders, _ in os.walk(root):
        found += [Path(folder, name) for name in sorted(folders) if _is_made(Path(folder, name))]
        folders[:] = _sound(Path(folder), folders)
    return found


def _sound(folder: Path, names: list[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith(".") and not _is_made(folder / name))


def _is_made(folder: Path) -> bool:
    """By what lies in it, since a run or set may have any name and place."""
    return any((folder / mark).is_file() for mark in MADE)


def is_picture(path: Path) -> bool:
    """By its name, else by its first bytes: a picture called `x.dat` is one, and a text called `x.png` is to be refused as one."""
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return True
    with open(path, "rb") as file:
        start = file.read(32)
    return len(start) >= 12 and sniff(start) is not None


def not_a_picture(path: Path) -> str:
    """One line for a person about a file that is neither a picture nor a sidecar."""
    return f"{path.suffix.lower() or 'no suffix'}, {path.stat().st_size:,} bytes: neither a picture nor a sidecar"


def mask_of(picture: Path) -> Path | None:
    """The file that says how much of a picture counts: NAME.mask.png beside it, else masks/NAME.png in its folder."""
    for name in (picture.stem, picture.name):
        for path in (picture.with_name(f"{name}.mask.png"), picture.parent / "masks" / f"{name}.png"):
            if os.path.isfile(path) and path != picture:  # a Path raises for a name that is too long
                return path
    return None
