"""Shots of a video, and the best frame of each. Knows frames and OpenCV's reader; knows no catalogue.

A cut is where most of the picture changes at once, much more than around it, and does not come back: so a pan (the same picture
moved), a flash (it comes back), a fade to dark and up again (the same picture, dimmer) are none. A dissolve is found by its middle,
which is a mixture of what is before and after. The best frame is the sharpest one that is no mixture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from .encode import encode_png
from .letterbox import Crop, Letterbox
from .picture import Limits, Pixels

SMALL_W, SMALL_H = 64, 36
CHANGED = 20 / 255  # of a channel, for a pixel to count as changed
CUT = 0.2  # share of changed pixels
SPIKE = 3.0  # times the median of the frames around
AROUND = 4  # frames on each side
FLASH = 3  # frames after which a flash has passed
MIN_FRAMES = 4  # a shorter piece between two cuts is a transition
MIX = 8  # frames before and after, whose mixture the middle of a dissolve is
MIX_ERROR = 0.15  # of their difference
ALIKE = 0.8  # correlation of a picture with itself, dimmed
EMPTY = 6 / 255  # standard deviation of a frame with nothing on it
EDGE = 2  # frames next to a cut, which a change of frame rate may have mixed
SHARP_W = 512
BARS_EVERY = 5  # frames, of which one is looked at for bars
NEAR_MEAN, NEAR_SHARE = 2.5 / 255, 0.004  # two frames that are one picture
RECENT = 500  # best frames that a new one is held against
Small = NDArray[np.float32]  # [36, 64, 3], 0..1


Advance = Callable[[int], None]


def _nothing(frames: int) -> None:
    """Nobody watches."""


class UnreadableVideo(DataError):
    """OpenCV cannot read this video, or not within bounds."""


@dataclass(frozen=True)
class Shot:
    """Frames first..last, both inside, and the sharpest of them."""

    first: int
    last: int
    best: int


@dataclass(frozen=True)
class Best:
    """The best frame of a shot, without bars, as PNG. `like` is the number of an earlier shot whose best frame it nearly equals;
    then there is no PNG."""

    number: int
    shot: Shot
    time_s: float
    crop: Crop
    png: bytes
    like: int | None = None


class ShotFinder:
    """Sees frames in order, keeps a few numbers of each, and says the shots at the end."""

    def __init__(self) -> None:
        self.changed: list[float] = []  # against the frame before, after the best shift
        self.changed_over: list[float] = []  # against the frame FLASH before
        self.mixed: list[bool] = []
        self.empty: list[bool] = []
        self.sharp: list[float] = []
        self.other_side: set[int] = set()  # first frames after an empty stretch that show something else than before it
        self._recent: deque[Small] = deque(maxlen=2 * MIX + 1)
        self._full: Small | None = None  # the last frame with something on it

    def see(self, frame_HW3: Pixels) -> None:
        """Take the next frame."""
        small = cv2.resize(frame_HW3, (SMALL_W, SMALL_H), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        before = self._recent
        self.changed.append(change(before[-1], small) if before else 0.0)
        self.changed_over.append(change(before[-FLASH], small) if len(before) >= FLASH else 0.0)
        empty = float(small.std(axis=(0, 1)).max()) < EMPTY
        if not empty:
            if self.empty and self.empty[-1] and self._full is not None and not _same(self._full, small):
                self.other_side.add(len(self.empty))
            self._full = small
        self.empty.append(empty)
        self.sharp.append(sharpness(frame_HW3))
        before.append(small)
        self.mixed.append(False)
        if len(before) == 2 * MIX + 1:
            self.mixed[-1 - MIX] = is_mixture(before[MIX], before[0], before[-1])

    def shots(self) -> list[Shot]:
        """All shots that have a frame worth keeping, in order."""
        bounds, spoiled = self._bounds()
        found = []
        for first, end in pairwise(bounds):
            best = self._best(first, end, spoiled)
            if best is not None:
                found.append(Shot(first, end - 1, best))
        return found

    def _bounds(self) -> tuple[list[int], NDArray[np.bool_]]:
        """First frames of shots, with 0 and the end; and which frames belong to a transition."""
        number = len(self.changed)
        spoiled = np.array(self.empty, dtype=bool)
        cuts = [at for at in range(1, number) if self._is_cut(at)]
        for first, last in _runs(np.array(self.mixed, dtype=bool)):
            near = range(first - MIX, last + MIX + 1)
            if last - first >= 1 and not any(cut in near for cut in cuts):
                spoiled[max(0, first - MIX // 2) : last + MIX // 2 + 1] = True
                cuts.append((first + last) // 2)
        cuts = sorted({*cuts, *self.other_side})
        bounds = [0]
        for cut in cuts:
            if cut - bounds[-1] < MIN_FRAMES and bounds[-1] > 0:
                spoiled[bounds[-1] : cut] = True  # a piece too short for a shot goes with the cut before it
            elif number - cut >= MIN_FRAMES:
                bounds.append(cut)
        return [*bounds, number], spoiled

    def _is_cut(self, at: int) -> bool:
        value = self.changed[at]
        if value < CUT:
            return False
        around = self.changed[max(1, at - AROUND) : at] + self.changed[at + 1 : at + 1 + AROUND]
        if around and value < SPIKE * float(np.median(around)):
            return False
        comes_back = [self.changed_over[at]] if at >= FLASH else []
        if at + FLASH - 1 < len(self.changed_over):
            comes_back.append(self.changed_over[at + FLASH - 1])
        return all(each >= CUT / 2 for each in comes_back)

    def _best(self, first: int, end: int, spoiled: NDArray[np.bool_]) -> int | None:
        edge = EDGE if end - first > 3 * EDGE else 0
        for choice in (range(first + edge, end - edge), range(first, end)):
            good = [at for at in choice if not spoiled[at]]
            if good:
                return max(good, key=lambda at: (self.sharp[at], -at))
        return None


def change(a: Small, b: Small) -> float:
    """Share of pixels that differ, at the best shift of one against the other, or once one is dimmed as the other is."""
    share = float((np.abs(a - b).max(axis=2) > CHANGED).mean())
    if share < CUT / 2:
        return share
    if _same(a, b):
        centred = a - a.mean(axis=(0, 1))
        gain = float((centred * (b - b.mean(axis=(0, 1)))).sum()) / max(1e-6, float((centred * centred).sum()))
        dimmed = gain * centred + b.mean(axis=(0, 1))
        share = min(share, float((np.abs(dimmed - b).max(axis=2) > CHANGED).mean()))
    grey_a, grey_b = a.mean(axis=2), b.mean(axis=2)
    (x, y), _ = cv2.phaseCorrelate(grey_a, grey_b, _window())
    if (abs(x) < 0.2 and abs(y) < 0.2) or abs(x) > SMALL_W / 3 or abs(y) > SMALL_H / 3:
        return share
    moved = cv2.warpAffine(a, np.array([[1, 0, x], [0, 1, y]], np.float32), (SMALL_W, SMALL_H), flags=cv2.INTER_LINEAR)
    left, top = max(0, int(np.ceil(x))), max(0, int(np.ceil(y)))
    right, bottom = SMALL_W + min(0, int(np.floor(x))), SMALL_H + min(0, int(np.floor(y)))
    differs = np.abs(moved - b)[top:bottom, left:right].max(axis=2) > CHANGED
    return min(share, float(differs.mean()))


def is_mixture(middle: Small, a: Small, b: Small) -> bool:
    """Whether `middle` is (1 - w) a + w b of two different pictures, with w well inside 0..1."""
    line, there = (b - a).ravel(), (middle - a).ravel()
    length = float(line @ line)
    if float((np.abs(a - b).max(axis=2) > CHANGED).mean()) < CUT or length == 0 or _same(a, b):
        return False
    w = float(there @ line) / length
    error = float(np.abs(there - w * line).mean()) / float(np.abs(line).mean())
    return 0.2 < w < 0.8 and error < MIX_ERROR


def sharpness(frame_HW3: Pixels) -> float:
    """Variance of the Laplacian at a fixed width, so that frames of one video compare."""
    grey = cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2GRAY)
    if grey.shape[1] > SHARP_W:
        size = (SHARP_W, max(1, round(grey.shape[0] * SHARP_W / grey.shape[1])))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def best_frames(
    path: Path, *, max_frames: int, max_shots: int, limits: Limits | None = None, advance: Advance = _nothing
) -> Iterator[Best]:
    """The best frame of every shot of a video, read twice: to find them, and to fetch them. `advance` is told of every frame read.

    Raises:
        UnreadableVideo: it cannot be opened, has no frame, changes its size, or is longer than the bounds.
    """
    finder, rate = ShotFinder(), 0.0
    box: Letterbox | None = None
    for number, (frame, each) in enumerate(frames_of(path, limits or Limits())):
        if number >= max_frames:
            raise UnreadableVideo(f"it has over {max_frames:,} frames", do="cut the video into parts")
        rate = each
        advance(1)
        finder.see(frame)
        box = box or Letterbox(*frame.shape[:2])
        if number % BARS_EVERY == 0:
            box.see(frame)
    shots = finder.shots()
    if box is None:
        raise UnreadableVideo(
            "it has no frame that can be read", do="see whether a player shows it; make it anew if not"
        )
    if len(shots) > max_shots:
        raise UnreadableVideo(f"it has over {max_shots:,} shots", do="cut the video into parts")
    yield from _fetched(path, shots, box.crop(), rate, limits or Limits(), advance)


def _fetched(
    path: Path, shots: list[Shot], crop: Crop, rate: float, limits: Limits, advance: Advance
) -> Iterator[Best]:
    wanted = {shot.best: (number, shot) for number, shot in enumerate(shots, 1)}
    top, bottom, left, right = crop
    recent: deque[tuple[int, Small]] = deque(maxlen=RECENT)
    for at, (frame, _) in enumerate(frames_of(path, limits)):
        advance(1)
        if at not in wanted:
            continue
        number, shot = wanted[at]
        cropped = np.ascontiguousarray(frame[top:bottom, left:right])
        small = cv2.resize(cropped, (SMALL_W, SMALL_H), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        like = next((other for other, seen in reversed(recent) if _nearly(seen, small)), None)
        if like is None:
            recent.append((number, small))
        yield Best(number, shot, at / rate if rate > 0 else 0.0, crop, b"" if like else encode_png(cropped), like)


def frames_of(path: Path, limits: Limits) -> Iterator[tuple[Pixels, float]]:
    """Frames in order, RGB, with the frame rate. Raises UnreadableVideo."""
    video = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        if not video.isOpened():
            raise UnreadableVideo(
                "the video cannot be opened", why="OpenCV's own FFmpeg does not know its codec, or the file is cut or broken",
                do="pip install --upgrade opencv-python-headless, or make it anew: ffmpeg -i IN -c:v libx264 -crf 12 OUT.mkv",
            )  # fmt: skip
        width, height = (int(video.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > limits.max_pixels or max(width, height) > limits.max_side:
            raise UnreadableVideo(f"its frames are {width:,}x{height:,} pixels", do="make a smaller one of it")
        rate = float(video.get(cv2.CAP_PROP_FPS))
        size: tuple[int, ...] | None = None
        while True:
            done, frame = video.read()
            if not done or frame is None:
                return
            if size not in (None, frame.shape):
                raise UnreadableVideo("its frames change their size", do="make it anew with one size")
            size = frame.shape
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), rate if np.isfinite(rate) else 0.0
    except cv2.error as error:
        raise UnreadableVideo("its frames cannot be read", why=" ".join(str(error).split())[:200]) from error
    finally:
        video.release()


def num_frames(path: Path) -> int | None:
    """What the file says of its length; None where it does not say. Good for a progress bar and for nothing else."""
    video = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    said = video.get(cv2.CAP_PROP_FRAME_COUNT) if video.isOpened() else 0.0
    video.release()
    return int(said) if 0 < said < 1e9 else None


@cache
def _window() -> NDArray[np.float32]:
    return cv2.createHanningWindow((SMALL_W, SMALL_H), cv2.CV_32F)


def _same(a: Small, b: Small) -> bool:
    """One picture, perhaps dimmed: correlation does not see brightness."""
    a, b = a - a.mean(axis=(0, 1)), b - b.mean(axis=(0, 1))
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return scale < 1e-6 or float((a * b).sum()) / scale > ALIKE


def _nearly(a: Small, b: Small) -> bool:
    difference = np.abs(a - b)
    return float(difference.mean()) < NEAR_MEAN and float((difference.max(axis=2) > CHANGED).mean()) < NEAR_SHARE


def _runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and last of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        yield int(first), int(end) - 1
