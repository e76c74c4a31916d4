"""From a scene to pixels, layers and keypoints, at any size. A pure function of scene and size: no clock, no global state."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from animeflow.core.errors import ConfigError
from animeflow.toonworld import figure as figures
from animeflow.toonworld.background import draw_background
from animeflow.toonworld.brush import Brush, Pixels
from animeflow.toonworld.palette import LIGHTS
from animeflow.toonworld.stage import Stage
from animeflow.toonworld.style import STYLES
from animeflow.toonworld.world import Scene, generator

_SOFTNESS = 0.55  # standard deviation of the blur of supersampled pictures, in pixels


@dataclass(frozen=True)
class Drawing:
    """One picture and what is known about its pixels. Layers are None when drawn with `layers=False`.

    Composite: start from `background`, lay `figures_rgba[k]` over it in the order of `depth_order`.
    """

    pixels: Pixels  # [H, W, 3] RGB
    keypoints: list[dict[str, tuple[float, float]]]  # per figure, left to right: part -> (x, y) in pixels
    depth_order: tuple[int, ...]  # figure numbers from the farthest to the nearest
    figures_rgba: list[Pixels] | None = None  # per figure [H, W, 4], straight alpha
    background: Pixels | None = None  # [H, W, 3]
    lines: Pixels | None = None  # [H, W], white on black
    depth: Pixels | None = None  # [H, W]: 0 background, then 1 (farthest) to the number of figures (nearest)


@dataclass(frozen=True)
class Place:
    """Where a figure stands: pixels per unit, pixel of its unit origin, tilt in degrees."""

    scale: float
    origin: tuple[float, float]
    tilt: float


def supersampling(height: int, width: int) -> int:
    """Small pictures are drawn three times as large and shrunk; large ones antialias every shape instead."""
    shorter = min(height, width)
    return 3 if shorter <= 224 else 2 if shorter <= 448 else 1


def arrange(scene: Scene, height: int, width: int) -> list[Place]:
    """Places from left to right. In tall frames several figures are staggered, so that none gets small."""
    rng, count = generator("arrange", scene.seed), len(scene.figures)
    jitter = rng.uniform(-1, 1, size=(3, 4))  # always the same number of draws: an edit moves nothing
    tall = min(1.0, max(0.0, height / width - 1.0))
    step = 0.66 - 0.34 * tall  # distance between neighbours, in figures
    reach = figures.WIDTH + step * (count - 1)
    levels = _levels(count, tall, mirrored=jitter[0, 3] < 0)
    rise = 0.03 + 0.63 * tall  # of one level, in figures
    tallest = 1.0 - figures.TOP + rise * max(levels)
    scale = min(0.97 * height / tallest, 0.985 * width / reach)
    spare_x, spare_y = width - scale * reach, height - scale * tallest
    places = []
    for k in range(count):
        dx, dy, dscale, dtilt = jitter[k]
        size = scale * (0.98 + 0.02 * dscale)
        x = width / 2 + (k - (count - 1) / 2) * (scale * step + 0.5 * spare_x / count)
        x += dx * (0.012 * scale + 0.06 * spare_x / count)
        foot = height - scale * (0.02 + rise * levels[k] + 0.005 * dy) - 0.13 * spare_y
        places.append(Place(size, (float(x), float(foot - size)), float(1.6 * dtilt)))
    return places


def _levels(count: int, tall: float, *, mirrored: bool) -> list[int]:
    """How far back each figure stands: in a square the middle one, in a tall frame one behind another."""
    if count < 3 or tall < 0.5:
        levels = [[0], [0, 1], [0, 1, 0]][count - 1]
    else:
        levels = [1, 2, 0]
    return levels[::-1] if mirrored else levels


def draw(scene: Scene, height: int, width: int, *, layers: bool = True) -> Drawing:
    """Draw a scene; `layers=False` gives pixels and keypoints only and is faster.

    Raises:
        ConfigError: a side is below 32 or above 8192 pixels.
    """
    if not (min(height, width) >= 32 and max(height, width) <= 8192):
        raise ConfigError(f"toonworld cannot draw {height}x{width}", do="use sides from 32 to 8192 pixels")
    factor, places = supersampling(height, width), arrange(scene, height, width)
    order = tuple(sorted(range(len(places)), key=lambda k: (places[k].origin[1] + places[k].scale, k)))
    background, back_lines = _background(scene, height, width, factor, lines=layers)
    painted = [_figure(scene, k, places[k], height, width, factor, lines=layers) for k in range(len(places))]
    pixels = background.copy()
    for k in order:
        _lay_over(pixels, painted[k][0])
    points = [_keypoints(scene, k, place) for k, place in enumerate(places)]
    if not layers or back_lines is None:
        return Drawing(pixels, points, order)
    depth = np.zeros((height, width), np.uint8)
    lines = back_lines
    for rank, k in enumerate(order, 1):
        canvas, own = painted[k]
        assert own is not None
        depth[canvas[..., 3] >= 128] = rank
        lines = cv2.max(cv2.multiply(lines, cv2.bitwise_not(canvas[..., 3]), scale=1 / 255), own)
    return Drawing(pixels, points, order, [_straight(canvas) for canvas, _ in painted], background, lines, depth)


def _background(scene: Scene, height: int, width: int, factor: int, *, lines: bool) -> tuple[Pixels, Pixels | None]:
    unit = float(min(height, width))
    factor = min(factor, 2)
    brush = Brush(
        height * factor,
        width * factor,
        scale=unit * factor,
        origin=(0.0, 0.0),
        style=STYLES[scene.artist],
        grade=lambda color: color,  # the stage grades: skies come as they are
        factor=factor,
        lines=lines,
    )
    shift = float(generator("background", scene.seed).uniform(-1, 1))
    stage = Stage(brush, LIGHTS[scene.lighting], shift=shift, width=width / unit, height=height / unit)
    draw_background(stage, scene.background)
    brush.finish()
    shrunk = _shrink(brush.canvas, factor)
    return cv2.cvtColor(shrunk, cv2.COLOR_RGBA2RGB), None if brush.lines is None else _shrink(brush.lines, factor)


def _figure(
    scene: Scene, k: int, place: Place, height: int, width: int, factor: int, *, lines: bool
) -> tuple[Pixels, Pixels | None]:
    """Premultiplied RGBA and line layer of one figure, at the size of the picture."""
    style = STYLES[scene.artist]
    brush = Brush(
        height * factor,
        width * factor,
        scale=place.scale * factor,
        origin=(place.origin[0] * factor, place.origin[1] * factor),
        tilt=place.tilt,
        style=style,
        grade=LIGHTS[scene.lighting].grade,
        factor=factor,
        lines=lines,
    )
    figures.paint(brush, scene.figures[k])
    brush.finish()
    if style.border > 0:
        figures.add_border(brush.canvas, style.border * brush.scale)
    return _shrink(brush.canvas, factor), None if brush.lines is None else _shrink(brush.lines, factor)


def _shrink(canvas: Pixels, factor: int) -> Pixels:
    """Area mean, then a hint of blur: small pictures keep their look and lose the edges that no latent codec can hold.

    Measured with 16 principal components of 8x8 blocks at 128x128: 23.3 dB without, 26.0 dB with it.
    """
    if factor == 1:
        return canvas
    h, w = canvas.shape[:2]
    small = cv2.resize(canvas, (w // factor, h // factor), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (3, 3), _SOFTNESS, borderType=cv2.BORDER_REPLICATE)


def _lay_over(pixels: Pixels, canvas: Pixels) -> None:
    """Premultiplied RGBA over opaque pixels, in place."""
    rest = cv2.bitwise_not(canvas[..., 3])
    cv2.add(
        cv2.multiply(pixels, cv2.merge([rest] * 3), scale=1 / 255), cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB), dst=pixels
    )


def _straight(canvas: Pixels) -> Pixels:
    """Premultiplied -> straight alpha."""
    alpha = canvas[..., 3:].astype(np.float32)
    color = np.clip(np.round(canvas[..., :3] * (255.0 / np.maximum(alpha, 1.0))), 0, 255)
    return np.concatenate([color, alpha], axis=2).astype(np.uint8)


def _keypoints(scene: Scene, k: int, place: Place) -> dict[str, tuple[float, float]]:
    c, s = np.cos(np.radians(place.tilt)), np.sin(np.radians(place.tilt))
    turn = np.array([[c, s], [-s, c]]) * place.scale
    points = {}
    for name, unit in figures.keypoints(scene.figures[k]).items():
        x, y = unit @ turn + np.asarray(place.origin)
        points[name] = (round(float(x), 2), round(float(y), 2))
    return points
