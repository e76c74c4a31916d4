"""Six places under four lights: simple shapes with their own palettes. Knows the frame; knows no figure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from animeflow.toonworld.curve import ellipse, polygon, smooth, star
from animeflow.toonworld.palette import WHITE, Color, mix
from animeflow.toonworld.stage import Stage


def _sky(stage: Stage) -> None:
    stage.sky(stage.height)
    stage.lamp(stage.width * 0.17, 0.17)
    stage.cloud(stage.width * 0.86, stage.height * 0.20, 0.20)
    stage.cloud(stage.width * 0.08, stage.height * 0.50, 0.18)
    stage.cloud(stage.width * 0.95, stage.height * 0.60, 0.16)
    count = int(np.ceil(stage.width / 0.30)) + 1
    for row, (lift, color) in enumerate(((0.10, stage.light.cloud_shade), (0.0, stage.light.cloud))):
        for k in range(count + 1):
            r = 0.20 + 0.05 * ((k * 7 + row * 3) % 3)
            x, y = (k - 0.25 + 0.5 * row) * 0.30, stage.height - lift + 0.06
            stage.brush.fill(ellipse((x, y), r, r * 0.8), color, outline=0)


def _beach(stage: Stage) -> None:
    stage.sky(stage.horizon)
    stage.lamp(stage.width * 0.17, 0.17)
    stage.cloud(stage.width * 0.85, stage.horizon * 0.55, 0.17)
    h, b = stage.horizon - 0.06, stage.height
    stage.brush.gradient(stage.band(h, b), stage.far((16, 132, 196)), stage.far((92, 228, 218)))
    for k in range(5):
        x = stage.width * ((k * 0.38 + 0.1) % 1)
        y = h + 0.035 + 0.022 * (k % 3)
        stage.paint(ellipse((x, y), 0.085, 0.008, steps=12), (206, 250, 250))
    w = stage.width
    shore = [
        (-0.1, h + 0.16),
        (w * 0.2, h + 0.135),
        (w * 0.45, h + 0.165),
        (w * 0.75, h + 0.135),
        (w + 0.1, h + 0.17),
        (w + 0.1, b + 0.2),
        (-0.1, b + 0.2),
    ]
    stage.paint(smooth(shore), (255, 255, 255))
    stage.paint(smooth([(x, y + 0.028) for x, y in shore]), (250, 214, 150))
    stage.paint(smooth([(x, y + 0.10) for x, y in shore]), (255, 228, 172))
    _palm(stage, 0.02)
    _starfish(stage)


def _palm(stage: Stage, x: float) -> None:
    top = max(0.24, stage.horizon - 0.5)
    stage.brush.line(
        smooth([(x + 0.02, stage.horizon + 0.12), (x - 0.02, stage.horizon - 0.2), (x + 0.05, top)], closed=False),
        stage.far((132, 92, 62)),
        0.042,
    )
    for turn, size in ((-30, 0.20), (15, 0.24), (60, 0.20), (-75, 0.18), (150, 0.2), (200, 0.18)):
        a = np.radians(turn)
        tip = (x + 0.05 + size * float(np.cos(a)), top + size * float(np.sin(a)) * 0.8 + 0.03)
        mid = (x + 0.05 + size * 0.55 * float(np.cos(a)), top + size * 0.5 * float(np.sin(a)) - 0.06)
        stage.paint(
            smooth([(x + 0.05, top), (mid[0], mid[1] - 0.01), tip, tip, (mid[0], mid[1] + 0.05)]), (34, 150, 84)
        )


def _starfish(stage: Stage) -> None:
    stage.paint(star((stage.width * 0.88, stage.height - 0.07), 0.045, inner=0.5, turn=10), (255, 126, 96))
    stage.paint(ellipse((stage.width * 0.14, stage.height - 0.05), 0.035, 0.024, steps=14), (255, 250, 240))


def _cherry_blossoms(stage: Stage) -> None:
    stage.sky(stage.horizon)
    stage.lamp(stage.width * 0.5, 0.16)
    h, b, w = stage.horizon, stage.height, stage.width
    stage.paint(
        smooth(
            [(-0.2, h - 0.02), (w * 0.3, h - 0.09), (w * 0.7, h - 0.03), (w + 0.2, h - 0.08), (w + 0.2, b), (-0.2, b)]
        ),
        (96, 176, 96),
    )
    stage.brush.gradient(stage.band(h, b), stage.far((146, 214, 108)), stage.far((92, 178, 84)))
    stage.paint(smooth([(w * 0.42, h), (w * 0.58, h), (w * 0.86, b + 0.05), (w * 0.14, b + 0.05)]), (248, 214, 206))
    for x, lean in ((-0.01, 1), (w + 0.01, -1)):
        trunk = [
            (x - 0.05, h + 0.12),
            (x - 0.02, h - 0.2),
            (x + lean * 0.05, 0.1),
            (x + lean * 0.10, 0.1),
            (x + 0.035, h - 0.2),
            (x + 0.06, h + 0.12),
        ]
        stage.paint(smooth(trunk), (112, 72, 72))
    for color, grow, dy in (
        ((232, 120, 168), 1.0, 0.035),
        ((255, 176, 206), 0.94, 0.0),
        ((255, 214, 230), 0.55, -0.035),
    ):
        for x, y, r in ((0.02, 0.08, 0.24), (0.22, -0.02, 0.18), (0.03, 0.33, 0.15), (0.0, 0.52, 0.10)):
            for side in (x, w - x):
                stage.paint(ellipse((side, y + dy + (h - 0.64) * 0.35 * (y > 0.2)), r * grow, r * grow * 0.85), color)
    for k in range(12):
        x, y = ((k * 0.618 + 0.1) % 1) * w, ((k * 0.77 + 0.2) % 1) * b
        stage.paint(ellipse((x, y), 0.019, 0.012, turn=40 * k, steps=10), (255, 186, 212))


def _classroom(stage: Stage) -> None:
    h, b, w = stage.horizon, stage.height, stage.width
    stage.brush.gradient(stage.band(-0.02, h), stage.far((255, 240, 204)), stage.far((242, 216, 168)))
    stage.brush.gradient(stage.band(h, b), stage.far((206, 144, 88)), stage.far((170, 104, 58)))
    for k in range(1, 4):
        y = h + (b - h) * (k / 3.4) ** 1.5
        stage.brush.line(polygon([(-0.05, y), (w + 0.05, y)]), stage.far((140, 84, 50)), 0.008)
    stage.paint(stage.band(h - 0.03, h + 0.01), (150, 92, 54))
    middle = h * 0.42
    left, right = w * 0.24, w + 0.05
    stage.box(left - 0.03, middle - 0.28, right, middle + 0.26, (150, 96, 56))
    stage.box(left, middle - 0.25, right, middle + 0.22, (38, 108, 82))
    chalk = (196, 226, 206)
    for k, (x, length) in enumerate(((0.08, 0.22), (0.08, 0.14), (0.56, 0.2), (0.60, 0.16))):
        y = middle - 0.19 + 0.06 * (k % 2)
        stage.brush.line(polygon([(left + x, y), (left + x + length, y)]), stage.far(chalk), 0.014)
    stage.brush.line(
        polygon([(left - 0.02, middle + 0.235), (right, middle + 0.235)]), stage.far((210, 160, 110)), 0.02
    )
    _window(stage, -0.05, left - 0.07, middle - 0.30, middle + 0.20)


def _window(stage: Stage, x0: float, x1: float, y0: float, y1: float) -> None:
    stage.box(x0, y0 - 0.03, x1 + 0.03, y1 + 0.03, (255, 252, 246))
    glass = polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    stage.brush.gradient(glass, stage.light.sky[0], stage.light.sky[2])
    if stage.light.name == "night":
        stage.brush.fill(ellipse(((x0 + x1) / 2 + 0.02, y0 + 0.10), 0.045, 0.045, steps=18), (255, 246, 198), outline=0)
    stage.brush.line(polygon([(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2)]), stage.far((255, 252, 246)), 0.022)


def _cityscape(stage: Stage) -> None:
    h, b, w = stage.horizon, stage.height, stage.width
    stage.sky(h)
    stage.lamp(w * 0.17, 0.17)
    _towers(stage, step=0.17, base=0.52, color=(150, 156, 196), lit=False)
    _towers(stage, step=0.235, base=0.36, color=(98, 100, 150), lit=True)
    stage.brush.gradient(stage.band(h, b), stage.far((128, 126, 142)), stage.far((92, 90, 112)))
    stage.paint(stage.band(h - 0.01, h + 0.045), (196, 194, 204))
    y = h + (b - h) * 0.55
    for k in range(int(w / 0.3) + 2):
        stage.paint(
            polygon(
                [(k * 0.3 - 0.08, y), (k * 0.3 + 0.08, y), (k * 0.3 + 0.06, y + 0.026), (k * 0.3 - 0.10, y + 0.026)]
            ),
            (255, 236, 160),
        )


def _towers(stage: Stage, *, step: float, base: float, color: Color, lit: bool) -> None:
    window = (255, 214, 110) if stage.light.name == "night" else stage.far(mix(color, WHITE, 0.45))
    if stage.light.name == "sunset":
        window = (255, 206, 120)
    for k in range(int(stage.width / step) + 2):
        x, tall = (
            (k - 0.35) * step,
            base * (0.72 + 0.28 * ((k * 5 + (1 if lit else 3)) % 4) / 3) * min(1.7, stage.horizon / 0.64),
        )
        top = stage.horizon - tall
        stage.box(x, top, x + step * 0.9, stage.horizon + 0.02, color)
        if not lit:
            continue
        for row in range(int(tall / 0.085)):
            for column in range(2):
                if (k + row * 2 + column) % 3 == 0:
                    continue
                wx, wy = x + step * (0.14 + 0.38 * column), top + 0.035 + row * 0.085
                stage.brush.fill(
                    polygon([(wx, wy), (wx + 0.05, wy), (wx + 0.05, wy + 0.04), (wx, wy + 0.04)]), window, outline=0
                )


def _snow(stage: Stage) -> None:
    h, b, w = stage.horizon, stage.height, stage.width
    stage.sky(h)
    stage.brush.gradient(stage.band(-0.02, h), stage.far((150, 178, 206)), stage.far((226, 236, 246)), opacity=0.6)
    stage.lamp(w * 0.17, 0.17)
    stage.paint(
        smooth(
            [(-0.2, h - 0.06), (w * 0.3, h - 0.15), (w * 0.65, h - 0.07), (w + 0.2, h - 0.17), (w + 0.2, b), (-0.2, b)]
        ),
        (196, 216, 238),
    )
    for x, size in ((0.13, 0.34), (w - 0.12, 0.40), (w - 0.36, 0.24), (0.36, 0.22)):
        _pine(stage, x, h + 0.02, size)
    shapes = [
        (-0.2, h + 0.03),
        (w * 0.25, h - 0.02),
        (w * 0.6, h + 0.035),
        (w + 0.2, h - 0.01),
        (w + 0.2, b + 0.3),
        (-0.2, b + 0.3),
    ]
    stage.paint(smooth(shapes), (246, 250, 255))
    stage.paint(smooth([(x, y + 0.16) for x, y in shapes]), (222, 234, 250))
    for k in range(14):
        x, y = ((k * 0.618 + 0.03) % 1) * w, ((k * 0.53 + 0.11) % 1) * b
        r = 0.012 + 0.005 * (k % 3)
        stage.brush.fill(ellipse((x, y), r, r, steps=12), mix(stage.light.cloud, WHITE, 0.5), outline=0)


def _pine(stage: Stage, x: float, foot: float, size: float) -> None:
    stage.box(x - 0.02, foot - 0.06, x + 0.02, foot + 0.02, (104, 76, 66))
    for k, (low, wide) in enumerate(((0.05, 0.34), (0.32, 0.27), (0.58, 0.19))):
        y, half = foot - 0.02 - low * size, wide * size
        apex = y - 0.46 * size
        stage.paint(polygon([(x, apex), (x + half, y), (x - half, y)]), (36 + 8 * k, 104 + 10 * k, 92 + 6 * k))
        stage.paint(
            smooth(
                [
                    (x, apex),
                    (x, apex),
                    (x + half * 0.5, y - 0.22 * size),
                    (x, y - 0.27 * size),
                    (x - half * 0.5, y - 0.22 * size),
                ]
            ),
            (248, 252, 255),
        )


_PLACES: dict[str, Callable[[Stage], None]] = {
    "sky": _sky,
    "beach": _beach,
    "cherry_blossoms": _cherry_blossoms,
    "classroom": _classroom,
    "cityscape": _cityscape,
    "snow": _snow,
}


def draw_background(stage: Stage, place: str) -> None:
    _PLACES[place](stage)
