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


def files_in(root: Path) -> Iterator[Path]:
    """Every file below `root` in a fixed order; names that begin with a dot are left alone, links to folders are not followed."""
    if not root.is_dir():
        raise DataError(f"there is no folder {root}", do="check the path of the source")
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


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
            if path.is_file() and path != picture:
                return path
    return None
