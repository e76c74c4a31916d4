"""A video as an archive of its shots: one best frame each, without bars, as lossless PNG. Knows shots; knows no codec.

Codecs are many and old, so they work in a process of their own (`apart`): one that crashes costs this video alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ...image.shots import Best, UnreadableVideo, best_frames, num_frames
from .apart import Died, apart
from .caps import BrokenArchive, Caps
from .member import Member

TOLD_EVERY = 24  # frames
ASF = bytes.fromhex("3026b2758e66cf11")


def is_video(start: bytes) -> bool:
    """AVI, MKV and WebM, MP4 and MOV, FLV, Ogg, MPEG, ASF. A playlist is none: it could name files elsewhere."""
    if start[:4] == b"RIFF":
        return start[8:12] == b"AVI "
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return start[8:12] not in (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"M4A ")
    mpeg_ts = len(start) > 376 and start[0] == start[188] == start[376] == 0x47
    return mpeg_ts or start.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"\0\0\1\xba", b"\0\0\1\xb3", ASF))


def _length(tell: Callable[[int | None], None], path: Path) -> None:
    tell(num_frames(path))


def _bests(tell: Callable[[int | Best], None], path: Path, max_frames: int, max_shots: int) -> None:
    """Best frames, and how many frames went by, several at once: each is a message, and who tells nothing hangs."""
    passed = 0

    def advance(frames: int) -> None:
        nonlocal passed
        passed += frames
        if passed >= TOLD_EVERY:
            tell(passed)
            passed = 0

    for best in best_frames(path, max_frames=max_frames, max_shots=max_shots, advance=advance):
        tell(best)
    tell(passed)


class VideoArchive:
    """The best frame of every shot, as `shot_0001.png`, with its place in the video among its facts.

    `count` is of frames, and `advance` told of them.
    """

    kind = "video"

    def __init__(self, path: Path, caps: Caps) -> None:
        self.path, self.caps = path, caps
        try:
            frames = next(apart(_length, path), None)
        except (Died, MemoryError):
            frames = None  # reading it tells why
        self.count = None if frames is None else 2 * frames  # it is read twice
        self.advance: Callable[[int], None] = lambda frames: None

    def __iter__(self) -> Iterator[Member]:
        try:
            for best in apart(_bests, self.path, self.caps.max_frames, self.caps.max_shots):
                if not isinstance(best, Best):
                    self.advance(best)
                    continue
                shot = best.shot
                name = f"shot_{best.number:04d}.png"
                if best.like is not None:
                    detail = f"its best frame nearly equals that of shot {best.like}"
                    yield Member(name, reason="near_equal", detail=detail)
                    continue
                facts = {
                    "shot": best.number, "frame": shot.best, "first": shot.first, "last": shot.last,
                    "time_s": round(best.time_s, 3), "crop": list(best.crop),
                }  # fmt: skip
                yield Member(name, open=partial(io.BytesIO, best.png), facts=facts)
        except UnreadableVideo as error:
            raise BrokenArchive(error.what, where=str(self.path), why=error.why, do=error.do) from error
        except (Died, MemoryError) as died:
            raise BrokenArchive(
                "the decoder died on this video", where=str(self.path),
                why=str(died) or "it wants more memory than a decoder may have",
                do="see whether a player shows it; make it anew if so: ffmpeg -i IN -c:v libx264 -crf 12 OUT.mkv",
            ) from died  # fmt: skip
