"""Which reader a file needs, by its first bytes. Knows the readers; knows no member."""

from __future__ import annotations

from pathlib import Path

from ...core.errors import DataError
from ...image.header import sniff
from .caps import Caps
from .member import Archive
from .rpa import RpaArchive, index_beside
from .streams import decompressor
from .tars import RECORD, TarArchive, looks_like_tar
from .ugoira import UgoiraArchive, is_ugoira
from .video import VideoArchive, is_video
from .zips import END, LOCAL, ZipArchive

READ = "Ren'Py archives (.rpa), zip, cbz, tar (plain, gz, bz2, xz), ugoira zips and videos"
OTHERS = {b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"Rar!\x1a\x07": "a RAR archive (.cbr too)", b"%PDF": "a PDF"}


def open_archive(path: Path, caps: Caps, *, every_frame: bool = False) -> Archive:
    """The archive at `path`.

    Args:
        every_frame: of an animation, all frames instead of the first.
    Raises:
        DataError: there is no such file, it is none that is read, or its index is broken.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder", do="name the archives in it; a folder of pictures needs no unpacking")
    if not path.is_file():
        raise DataError(f"there is no file {path}", do="check the path; a folder of pictures needs no unpacking")
    if path.suffix.lower() == ".rpi":
        path = path.with_suffix(".rpa")
        if not path.is_file():
            raise DataError(
                f"there is no file {path}", why="a .rpi is the index of one", do="keep the two side by side"
            )
    with open(path, "rb") as file:
        start = file.read(RECORD)
    if start.startswith(b"RPA-") or path.suffix.lower() == ".rpa" or (len(start) and index_beside(path)):
        return RpaArchive(path, caps)
    if start.startswith((LOCAL, END)):
        archive = ZipArchive(path, caps)
        return UgoiraArchive(archive, every=every_frame) if is_ugoira(archive) else archive
    if decompressor(start, caps) is not None or looks_like_tar(start):
        return TarArchive(path, caps)
    if is_video(start):
        return VideoArchive(path, caps)
    raise _not_read(path, start)


def is_archive(start: bytes) -> bool:
    """Whether bytes that begin so are an archive or a video: one inside another is not opened."""
    others = start.startswith((b"RPA-", LOCAL, END, *OTHERS)) or looks_like_tar(start)
    return others or decompressor(start, Caps()) is not None or is_video(start)


def _not_read(path: Path, start: bytes) -> DataError:
    if sniff(start) is not None:
        what, do = (
            "it is a picture",
            "give its folder to `animeflow catalogue`; a GIF or APNG counts as its first frame there",
        )
        return DataError(f"{path} is no archive: {what}", do=do)
    for magic, name in OTHERS.items():
        if start.startswith(magic):
            return DataError(
                f"{path} is {name}, which is not read",
                do="unpack it with the program for it and give the folder to `animeflow catalogue`, or pack it as a zip",
            )
    return DataError(
        f"{path} is no archive or video that is known",
        why=f"it begins with {start[:8].hex(' ') or 'nothing: it has no bytes'}",
        do=f"what is read: {READ}",
    )
