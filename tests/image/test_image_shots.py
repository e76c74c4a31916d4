"""Shots of a drawn clip are found, pans, fades and flashes are none, and each gives one sharp frame without bars."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from animeflow.image.decode import decode
from animeflow.image.shots import Best, ShotFinder, UnreadableVideo, best_frames, change, is_mixture

H, W, BAR = 144, 256, 18
LIMITS = {"max_frames": 10_000, "max_shots": 1000}


def background(seed: int, height: int = H, width: int = W) -> np.ndarray:
    """A scene: large soft areas, hard shapes, fine lines."""
    draw = np.random.default_rng(seed)
    canvas = cv2.resize(draw.integers(30, 230, (4, 6, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(14):
        a, b = (tuple(int(v) for v in draw.integers(0, [width, height])) for _ in range(2))
        cv2.rectangle(canvas, a, b, tuple(int(v) for v in draw.integers(0, 255, 3)), int(draw.choice([-1, 2])))
    return canvas


def figure(frame: np.ndarray, at: float, colour: tuple[int, int, int] = (250, 210, 190)) -> np.ndarray:
    """Somebody who moves on twos."""
    frame, step = frame.copy(), int(at) // 2 * 2
    cv2.ellipse(frame, (W // 2 + step, H // 2), (22, 40), 0, 0, 360, colour, -1)
    cv2.circle(frame, (W // 2 + step - 8, H // 2 - 12), 4, (30, 30, 120), -1)
    return frame


def blurred(frame: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(frame, (0, 0), sigma) if sigma > 0 else frame


def shot(number: int) -> list[np.ndarray]:
    """Frames of one shot; every kind of motion that is no cut comes by."""
    scene, length = background(number), 14 + number * 7 % 11
    if number == 3:  # a pan, fast
        wide = background(number, H, W * 3)
        return [wide[:, 6 * i : 6 * i + W] for i in range(30)]
    if number == 5:  # dims to near black and comes up again
        light = np.concatenate([np.linspace(1, 0.05, 12), np.linspace(0.05, 1, 12), np.ones(4)])
        return [(scene * value).astype(np.uint8) for value in light]
    if number == 7:  # a flash of two frames
        return [np.full_like(scene, 255) if i in (8, 9) else figure(scene, i) for i in range(22)]
    if number == 9:  # a zoom
        grid = [cv2.getRotationMatrix2D((W / 2, H / 2), 0, 1 + 0.012 * i) for i in range(20)]
        return [cv2.warpAffine(scene, matrix, (W, H), borderMode=cv2.BORDER_REFLECT) for matrix in grid]
    if number == 11:  # looks like shot 10: the same room, somebody else, nearer
        near = cv2.warpAffine(background(10), cv2.getRotationMatrix2D((W / 2, H / 2), 0, 1.25), (W, H))
        return [figure(near, -i, (150, 90, 60)) for i in range(18)]
    if number == 13:  # a pan on threes
        wide = background(number, H, W * 3)
        return [wide[:, 12 * (i // 3) : 12 * (i // 3) + W] for i in range(27)]
    # Focus comes and goes: the sharpest frame is the one in the middle.
    return [blurred(figure(scene, i), abs(i - length // 2) * 0.35) for i in range(length)]


@cache
def clip(numbers: tuple[int, ...], *, dissolve_after: int | None = None) -> tuple[list[np.ndarray], list[int]]:
    """Frames, and where shots begin. One dissolve of 12 frames may follow one shot; it counts as its middle."""
    frames: list[np.ndarray] = []
    cuts: list[int] = []
    for place, number in enumerate(numbers):
        new = shot(number)
        if place and numbers[place - 1] == dissolve_after:
            cuts.append(len(frames) + 6)
            last, first = frames[-1].astype(float), new[0].astype(float)
            frames += [(last + (first - last) * i / 13).round().astype(np.uint8) for i in range(1, 13)]
        elif place:
            cuts.append(len(frames))
        frames += new
    return frames, cuts


def write(path: Path, frames: list[np.ndarray], codec: str, *, bar: int = 0) -> Path:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 24, (W, H + 2 * bar))
    assert video.isOpened()
    for frame in frames:
        video.write(cv2.copyMakeBorder(frame, bar, bar, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0)))
    video.release()
    return path


def f1(found: list[int], truth: list[int], *, within: int = 0) -> float:
    right = sum(any(abs(a - b) <= within for b in truth) for a in found)
    return 2 * right / (len(found) + len(truth))


@pytest.mark.parametrize("codec", ["MJPG", "FFV1", "mp4v"])
def test_twenty_shots_of_a_clip(tmp_path, codec):
    frames, cuts = clip(tuple(range(20)), dissolve_after=15)
    path = write(tmp_path / ("a.mp4" if codec == "mp4v" else "a.avi"), frames, codec, bar=BAR)
    found = list(best_frames(path, **LIMITS))
    assert f1([best.shot.first for best in found][1:], cuts, within=3) >= 0.98
    hard = [cut for cut in cuts if cut != cuts[15]]
    assert set(hard) <= {best.shot.first for best in found}, "a hard cut is found to the frame"
    assert len(found) == 20 and [best.number for best in found] == list(range(1, 21))
    blend = range(cuts[15] - 6, cuts[15] + 6)
    for best in found:
        assert best.crop == (BAR, BAR + H, 0, W) and best.like is None
        assert best.shot.first <= best.shot.best <= best.shot.last and best.shot.best not in blend
        assert best.time_s == pytest.approx(best.shot.best / 24)
        picture = decode(best.png).pixels[:, :, ::-1]
        assert picture.shape == (H, W, 3)
        error = np.abs(picture.astype(int) - frames[best.shot.best]).mean()
        assert error <= (0 if codec == "FFV1" else 8), "the frame that is told is the frame that is given"


def test_the_sharpest_frame_is_taken(tmp_path):
    numbers = (0, 1, 2, 4, 6)
    frames, cuts = clip(numbers)
    found: list[Best] = list(best_frames(write(tmp_path / "a.avi", frames, "FFV1"), **LIMITS))
    middles = [first + len(shot(number)) // 2 for first, number in zip([0, *cuts], numbers, strict=True)]
    assert [best.shot.best for best in found] == middles


def test_a_shot_that_comes_back_gives_no_second_picture(tmp_path):
    frames, _ = clip((0, 1, 0, 2, 1))
    found = list(best_frames(write(tmp_path / "a.avi", frames, "MJPG"), **LIMITS))
    assert [best.like for best in found] == [None, None, 1, None, 2]
    assert [bool(best.png) for best in found] == [True, True, False, True, False]


def test_a_fade_through_black_parts_two_scenes_and_not_one():
    def shots(after: int) -> int:
        finder = ShotFinder()
        down, up = np.linspace(1, 0, 10), np.linspace(0, 1, 10)
        a, b = background(1), background(after)
        frames = [a] * 8 + [a * v for v in down] + [a * 0] * 5 + [b * v for v in up] + [b] * 8
        for frame in frames:
            finder.see(frame.astype(np.uint8))
        return len(finder.shots())

    assert shots(after=1) == 1 and shots(after=2) == 2


def test_a_mixture_is_known_and_a_pan_and_a_dimming_are_none():
    small = [
        cv2.resize(background(i), (64, 36), interpolation=cv2.INTER_AREA).astype(np.float32) / 255 for i in range(2)
    ]
    a, b = small
    assert is_mixture(0.5 * a + 0.5 * b, a, b) and is_mixture(0.3 * a + 0.7 * b, a, b)
    assert not is_mixture(a, a, b) and not is_mixture(0.5 * a, a, 0.05 * a)
    wide = cv2.resize(background(3, H, W * 2), (128, 36), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    assert not is_mixture(wide[:, 8:72], wide[:, :64], wide[:, 16:80])
    assert change(wide[:, :64], wide[:, 6:70]) < 0.1 < change(a, b)


def test_bounds_and_unreadable_files(tmp_path):
    frames, _ = clip((0, 1, 2))
    path = write(tmp_path / "a.avi", frames, "MJPG")
    with pytest.raises(UnreadableVideo, match="over 20 frames"):
        list(best_frames(path, max_frames=20, max_shots=10))
    with pytest.raises(UnreadableVideo, match="over 2 shots"):
        list(best_frames(path, max_frames=1000, max_shots=2))
    (tmp_path / "b.avi").write_bytes(path.read_bytes()[:200] + bytes(5000))
    with pytest.raises(UnreadableVideo) as error:
        list(best_frames(tmp_path / "b.avi", **LIMITS))
    assert error.value.do
    (tmp_path / "c.avi").write_bytes(
        path.read_bytes()[: path.stat().st_size // 2]
    )  # a cut download gives what is there
    assert 1 <= len(list(best_frames(tmp_path / "c.avi", **LIMITS))) <= 3


def test_a_storm_in_which_all_changes_all_the_time_is_one_shot():
    finder, draw = ShotFinder(), np.random.default_rng(4)
    for _ in range(20):
        finder.see(cv2.resize(draw.integers(0, 255, (9, 16, 3), np.uint8), (W, H), interpolation=cv2.INTER_NEAREST))
    assert len(finder.shots()) == 1
