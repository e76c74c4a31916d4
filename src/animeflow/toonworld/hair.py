"""Hair in two layers: what hangs behind head and body, and what lies over the face. Knows shapes; knows no face."""

from __future__ import annotations

from animeflow.toonworld.brush import Brush
from animeflow.toonworld.curve import Points, ellipse, mirror, smooth, symmetric
from animeflow.toonworld.palette import Color, Tone, mix

# Half outlines (x >= 0) from the crown down; a doubled point is a sharp tip.
_SHORT = symmetric(
    "0 0.004, 0.14 0.028, 0.248 0.125, 0.295 0.28, 0.305 0.43, 0.325 0.535*, 0.25 0.535, "
    "0.235 0.575*, 0.13 0.54, 0 0.54"
)
_LONG = symmetric(
    "0 0.004, 0.14 0.028, 0.248 0.125, 0.298 0.3, 0.312 0.5, 0.335 0.7, 0.385 0.865*, 0.3 0.845, "
    "0.285 0.925*, 0.205 0.865, 0.165 0.92*, 0.09 0.86, 0 0.88"
)
_CAP = symmetric("0 0.004, 0.14 0.028, 0.248 0.125, 0.29 0.28, 0.285 0.4, 0.24 0.5, 0.14 0.545, 0 0.55")
_TAIL = smooth(
    "0.235 0.185, 0.315 0.135, 0.415 0.2, 0.475 0.38, 0.485 0.58, 0.455 0.74, 0.475 0.86*, "
    "0.405 0.82, 0.375 0.885*, 0.325 0.76, 0.325 0.58, 0.33 0.4, 0.27 0.27"
)
_TAIL_SHADE = smooth("0.26 0.25, 0.33 0.35, 0.36 0.58, 0.375 0.76, 0.385 0.92, 0.3 0.85, 0.29 0.55, 0.29 0.38")
_TAIL_GLOSS = smooth("0.35 0.2, 0.41 0.27, 0.442 0.42, 0.425 0.43, 0.395 0.31, 0.345 0.235")
_PONY = smooth(
    "0.165 0.085, 0.26 -0.005, 0.385 0.01, 0.475 0.13, 0.505 0.33, 0.475 0.53, 0.49 0.68*, "
    "0.42 0.625, 0.385 0.69*, 0.345 0.55, 0.355 0.38, 0.325 0.24, 0.24 0.17"
)
_PONY_SHADE = smooth("0.22 0.14, 0.33 0.19, 0.395 0.32, 0.4 0.52, 0.43 0.68, 0.33 0.68, 0.31 0.45, 0.3 0.27")
_PONY_GLOSS = smooth("0.3 0.035, 0.39 0.06, 0.452 0.17, 0.462 0.28, 0.435 0.275, 0.41 0.175, 0.31 0.085")
_BUN = ellipse((0.215, 0.045), 0.112, 0.108)
_BUN_SHADE = smooth("0.13 0.1, 0.2 0.095, 0.27 0.06, 0.31 0, 0.36 0.06, 0.28 0.18, 0.16 0.18")
_BUN_GLOSS = smooth("0.15 0.02, 0.19 -0.025, 0.245 -0.035, 0.235 -0.01, 0.195 0.005, 0.165 0.035")
_BUN_SWIRL = smooth("0.16 0.06, 0.2 0.005, 0.27 0.02, 0.265 0.08, 0.215 0.085", closed=False)

_CROWN = [(0.262, 0.505), (0.262, 0.505), (0.292, 0.38), (0.285, 0.24), (0.232, 0.108), (0.13, 0.027)]
_INNER = [(-0.212, 0.40), (-0.205, 0.30), (-0.205, 0.30)]
_FRINGE = [
    (-0.165, 0.365), (-0.165, 0.365), (-0.118, 0.255), (-0.118, 0.255), (-0.06, 0.352), (-0.06, 0.352), (-0.015, 0.245),
    (-0.015, 0.245), (0.065, 0.358), (0.065, 0.358), (0.108, 0.25), (0.108, 0.25), (0.172, 0.36), (0.172, 0.36),
    (0.205, 0.30), (0.205, 0.30), (0.212, 0.40),
]  # fmt: skip
FRONT = smooth([*_CROWN, (0, 0.002), *[(-x, y) for x, y in reversed(_CROWN)], *_INNER, *_FRINGE])
_FRONT_SHADE = smooth(
    "-0.33 0.55, -0.3 0.3, -0.235 0.235, -0.205 0.3, -0.16 0.275, -0.118 0.215, -0.06 0.295, "
    "-0.012 0.205, 0.062 0.3, 0.108 0.21, 0.165 0.295, 0.195 0.245, 0.21 0.2, 0.255 0.14, "
    "0.34 0.22, 0.33 0.55"
)
# The ring of light around a head: a band with teeth.
_RING = smooth(
    "-0.235 0.195, -0.15 0.125, 0 0.098, 0.15 0.125, 0.235 0.195, 0.205 0.205, 0.175 0.168, "
    "0.145 0.2, 0.115 0.15, 0.07 0.185, 0.04 0.142, 0 0.175, -0.045 0.142, -0.085 0.185, "
    "-0.12 0.15, -0.155 0.2, -0.18 0.168, -0.21 0.205"
)
_STRANDS = [
    smooth("0.012 0.04, 0 0.13, -0.014 0.235", closed=False, steps=4),
    smooth("0.03 0.045, 0.085 0.12, 0.108 0.24", closed=False, steps=4),
    smooth("-0.02 0.045, -0.09 0.12, -0.118 0.245", closed=False, steps=4),
]
_LOCKS = [
    smooth("0.235 0.6, 0.26 0.72, 0.285 0.9", closed=False, steps=4),
    smooth("0.285 0.55, 0.305 0.7, 0.34 0.83", closed=False, steps=4),
]


def _tie(brush: Brush, center: tuple[float, float], color: Color) -> None:
    brush.fill(ellipse(center, 0.036, 0.036, steps=16), color, outline=0.7)


def _hang(brush: Brush, shape: Points, shade: Points, gloss: Points, tone: Tone) -> None:
    brush.fill(shape, tone.base)
    brush.shade(shape, shade, tone.shade, opacity=brush.style.shade)
    brush.shade(shape, gloss, tone.light, opacity=0.8 * brush.style.gloss, hatch=False)


def draw_back(brush: Brush, style: str, tone: Tone) -> None:
    """What hangs behind head and body."""
    back = {"short_hair": _SHORT, "long_hair": _LONG}.get(style, _CAP)
    if style == "twintails":
        _hang(brush, _TAIL, _TAIL_SHADE, _TAIL_GLOSS, tone)
        _hang(brush, mirror(_TAIL), mirror(_TAIL_SHADE), mirror(_TAIL_GLOSS), tone)
    if style == "side_ponytail":
        _hang(brush, _PONY, _PONY_SHADE, _PONY_GLOSS, tone)
    if style == "double_bun":
        _hang(brush, _BUN, _BUN_SHADE, _BUN_GLOSS, tone)
        _hang(brush, mirror(_BUN), mirror(_BUN_SHADE), mirror(_BUN_GLOSS), tone)
        for swirl in (_BUN_SWIRL, mirror(_BUN_SWIRL)):
            brush.line(swirl, mix(tone.shade, (0, 0, 0), 0.15), 0.007)
    # The inside of the hair is seen from below: it is all in shade.
    brush.fill(back, mix(tone.shade, tone.base, 0.25))
    if style == "long_hair":
        brush.shade(back, symmetric("0 0.3, 0.2 0.35, 0.235 0.6, 0.2 0.95, 0 0.97"), tone.shade, soft=0.02)
        for lock in _LOCKS:
            for path in (lock, mirror(lock)):
                brush.line(path, mix(tone.base, tone.light, 0.35), 0.011)


def draw_front(brush: Brush, style: str, tone: Tone) -> None:
    """Fringe, side locks, ring of light, ties."""
    brush.fill(FRONT, tone.base)
    brush.shade(FRONT, _FRONT_SHADE, tone.shade, opacity=brush.style.shade)
    brush.shade(
        FRONT, _RING, tone.light, opacity=min(1.0, 0.95 * brush.style.gloss), hatch=False, soft=brush.style.softness / 3
    )
    for strand in _STRANDS:
        brush.line(strand, mix(tone.shade, (30, 10, 40), 0.15), 0.006)
    if style == "twintails":
        for x in (-0.262, 0.262):
            _tie(brush, (x, 0.185), (255, 250, 250))
    if style == "side_ponytail":
        _tie(brush, (0.185, 0.085), (255, 250, 250))
