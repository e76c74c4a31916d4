"""What is worn on a head, and the clip that marks a member of the cast. Knows shapes; knows no hair style."""

from __future__ import annotations

import numpy as np

from animeflow.toonworld.brush import Brush
from animeflow.toonworld.curve import ellipse, mirror, moved, polygon, smooth, star
from animeflow.toonworld.face import EYE
from animeflow.toonworld.palette import INK, MARK, WHITE, Tone, mix, tone

_EAR = smooth("0.075 0.06*, 0.15 -0.035, 0.232 -0.085*, 0.268 0.02, 0.262 0.155*")
_EAR_INSIDE = smooth("0.135 0.05, 0.175 -0.01, 0.218 -0.035*, 0.236 0.03, 0.232 0.1")
_LOOP = smooth("0 0.022, 0.07 -0.055, 0.155 -0.085, 0.185 0, 0.165 0.085, 0.08 0.075")
_LOOP_INSIDE = smooth("0.03 0.02, 0.08 -0.03, 0.14 -0.05, 0.158 0, 0.142 0.055, 0.08 0.05")
_LOOP_SHADE = smooth("0.03 0.05, 0.1 0.012, 0.19 0.02, 0.17 0.12, 0.06 0.1")
_BRIM = smooth("-0.385 0.165, -0.2 0.085, 0 0.068, 0.2 0.085, 0.385 0.165, 0.22 0.195, 0 0.208, -0.22 0.195")
_CONE = smooth(
    "-0.215 0.125, -0.14 0, -0.055 -0.085, 0.06 -0.125, 0.185 -0.1*, 0.135 -0.05, 0.165 0.02, 0.215 0.125, 0 0.155"
)
_CONE_SHADE = smooth("0.02 0.16, 0.045 0.04, 0.03 -0.06, 0.14 -0.075, 0.2 -0.1, 0.25 0.1, 0.2 0.18")
_BAND = smooth("-0.228 0.125, -0.203 0.07, 0 0.095, 0.198 0.07, 0.228 0.125, 0 0.158")
_MOON = smooth("0.32 -1*, -0.75 -0.55, -0.75 0.55, 0.32 1*, 0.85 0.5*, -0.06 0.4, -0.06 -0.5")
_DROP = smooth("0 -1.25*, 0.62 -0.1, 0.55 0.75, 0 1.0, -0.55 0.75, -0.62 -0.1")
_HEART = smooth("0 -0.45, 0.45 -0.9, 1 -0.5, 0.8 0.25, 0 1*, -0.8 0.25, -1 -0.5, -0.45 -0.9")


def draw_behind_front_hair(brush: Brush, accessory: str, hair: Tone) -> None:
    """Cat ears grow out of the hair."""
    if accessory != "cat_ears":
        return
    for ear, inside in ((_EAR, _EAR_INSIDE), (mirror(_EAR), mirror(_EAR_INSIDE))):
        brush.fill(ear, hair.base)
        brush.shade(ear, inside, (255, 150, 170), hatch=False, soft=0)


def _glasses(brush: Brush) -> None:
    rim = (176, 26, 60)
    lens = smooth(
        "-0.098 -0.085, -0.04 -0.104, 0.04 -0.104, 0.098 -0.085, 0.105 0, 0.092 0.088, 0 0.104, -0.092 0.088, -0.105 0"
    )
    for side in (-1, 1):
        glass = moved(lens, side * EYE[0], EYE[1] + 0.004)
        brush.shade(glass, glass, WHITE, opacity=0.16, soft=0, hatch=False)
        glare = moved(polygon("-0.09 0.06, 0.035 -0.1, 0.075 -0.1, -0.06 0.085"), side * EYE[0], EYE[1])
        brush.shade(glass, glare, WHITE, opacity=0.30, soft=0, hatch=False)
        brush.line(glass, rim, 0.020, closed=True)
    brush.line(polygon("-0.012 0.4, 0.012 0.4"), rim, 0.020)


def _hair_bow(brush: Brush) -> None:
    red = tone((236, 36, 62), depth=0.35)
    for flip in (False, True):
        loop, inside, shade = (mirror(s) if flip else s for s in (_LOOP, _LOOP_INSIDE, _LOOP_SHADE))
        brush.fill(loop, WHITE)
        brush.fill(inside, red.base, outline=0)
        brush.shade(inside, shade, red.shade, opacity=brush.style.shade)
    brush.fill(ellipse((0, 0.018), 0.042, 0.045, steps=18), red.base)


def _hair_flower(brush: Brush) -> None:
    x, y = -0.222, 0.165
    for k in range(5):
        angle = np.radians(72 * k - 90)
        center = (x + 0.056 * float(np.cos(angle)), y + 0.056 * float(np.sin(angle)))
        brush.fill(ellipse(center, 0.052, 0.042, turn=72 * k - 90, steps=18), (255, 246, 250), outline=0.8)
    brush.fill(star((x, y), 0.062, inner=0.45, turn=0), (255, 104, 160), outline=0)
    brush.fill(ellipse((x, y), 0.028, 0.028, steps=14), (255, 190, 30), outline=0.6)


def _witch_hat(brush: Brush) -> None:
    cloth = tone((74, 52, 132), depth=0.4, lift=0.3)
    brush.fill(_BRIM, cloth.base)
    brush.shade(
        _BRIM, smooth("-0.39 0.165, 0 0.135, 0.39 0.165, 0.2 0.24, -0.2 0.24"), cloth.shade, opacity=brush.style.shade
    )
    brush.fill(_CONE, cloth.base)
    brush.shade(_CONE, _CONE_SHADE, cloth.shade, opacity=brush.style.shade)
    brush.fill(_BAND, (255, 196, 50), outline=0.7)
    brush.fill(star((0.185, -0.082), 0.045), (255, 222, 90), outline=0.7)


def draw_over_hair(brush: Brush, accessory: str) -> None:
    if accessory == "glasses":
        _glasses(brush)
    elif accessory == "hair_bow":
        _hair_bow(brush)
    elif accessory == "hair_flower":
        _hair_flower(brush)
    elif accessory == "witch_hat":
        _witch_hat(brush)


def draw_mark(brush: Brush, shape: str, color: str) -> None:
    """The hair clip of a named character, at the right of the picture."""
    x, y, r = 0.178, 0.225, 0.062
    paint = MARK[color]
    if shape == "star":
        outline = star((x, y), r * 1.1)
    elif shape == "diamond":
        outline = polygon([(x, y - r * 1.15), (x + r * 0.8, y), (x, y + r * 1.15), (x - r * 0.8, y)])
    elif shape == "moon":
        outline = moved(_MOON, x, y, scale=r)
    elif shape == "drop":
        outline = moved(_DROP, x, y, scale=r)
    else:
        outline = moved(_HEART, x, y, scale=r)
    brush.line(outline, WHITE, 0.030, closed=True)
    brush.fill(outline, paint, outline=0)
    brush.line(outline, mix(paint, INK, 0.62), 0.011, closed=True)
