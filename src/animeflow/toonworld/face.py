"""Head and face: skin, blush, eyes, brows, mouth. Knows expressions; knows no hair."""

from __future__ import annotations

from animeflow.toonworld.brush import Brush
from animeflow.toonworld.curve import Points, ellipse, limb, mirror, moved, smooth, symmetric
from animeflow.toonworld.palette import BLUSH, INK, SKIN, SKIN_LINE, WHITE, Color, Tone, mix

EYE = (0.112, 0.408)  # centre of the eye on the right of the picture (the figure's left)
MOUTH = (0.0, 0.515)

_HEAD = symmetric("0 0.1, 0.14 0.13, 0.225 0.24, 0.238 0.37, 0.218 0.465, 0.148 0.543, 0.06 0.583, 0 0.59")
_EAR = ellipse((0.237, 0.405), 0.03, 0.042, turn=12, steps=16)
_FRINGE_SHADE = smooth(
    "-0.25 0.1, 0.25 0.1, 0.245 0.42, 0.205 0.4, 0.172 0.385, 0.108 0.3, 0.065 0.385, "
    "-0.015 0.295, -0.06 0.38, -0.118 0.3, -0.165 0.39, -0.205 0.4, -0.245 0.42"
)
# The eye, around (0, 0).
_WHITE = smooth("-0.066 0, -0.055 -0.058, 0.005 -0.082, 0.062 -0.062, 0.07 -0.01, 0.052 0.055, 0 0.078, -0.05 0.055")
_LASH_SHADE = smooth("-0.1 -0.12, 0.12 -0.12, 0.12 -0.04, 0 -0.058, -0.1 -0.03")
_LID = smooth(
    "-0.076 -0.005, -0.066 -0.065, 0 -0.098, 0.068 -0.078, 0.098 -0.058*, 0.084 -0.018, "
    "0.066 -0.052, 0 -0.073, -0.056 -0.048"
)
_LOWER = smooth("-0.036 0.079, 0.008 0.086, 0.05 0.068", closed=False)
_IRIS = ellipse((0.003, 0.002), 0.057, 0.078)
_IRIS_DARK = ellipse((0.003, -0.06), 0.07, 0.062)
_IRIS_GLOW = ellipse((0.003, 0.046), 0.036, 0.024, steps=18)
_PUPIL = ellipse((0.003, -0.004), 0.021, 0.032, steps=18)
_SPARK = ellipse((-0.020, -0.036), 0.021, 0.025, turn=15, steps=18)
_SPARK_SMALL = ellipse((0.028, 0.036), 0.011, 0.013, steps=14)
_WINK = smooth("-0.078 -0.012, -0.045 0.028, 0 0.042, 0.048 0.028, 0.085 -0.018", closed=False)
_WINK_LASH = [smooth("0.05 0.026, 0.082 0.046", closed=False), smooth("0.075 0.002, 0.108 0.012", closed=False)]
_ANGRY_LID = smooth("-0.1 -0.11, 0.12 -0.11, 0.12 -0.095, -0.09 -0.012*")
# Brows on the right of the picture, in figure units.
_BROWS: dict[str, Points] = {
    "smile": limb((0.055, 0.292), (0.165, 0.285), 0.008, 0.006, bend=-0.012),
    "open_mouth": limb((0.055, 0.272), (0.165, 0.268), 0.008, 0.006, bend=-0.02),
    "angry": limb((0.035, 0.335), (0.175, 0.258), 0.014, 0.009),
    "crying": limb((0.045, 0.262), (0.165, 0.305), 0.010, 0.007, bend=-0.008),
    "one_eye_closed": limb((0.055, 0.292), (0.165, 0.285), 0.008, 0.006, bend=-0.012),
}
_SMILE = smooth("-0.047 0.503, -0.025 0.522, 0 0.527, 0.025 0.522, 0.047 0.503", closed=False)
_OPEN = smooth("-0.068 0.488*, 0 0.496, 0.068 0.488*, 0.05 0.545, 0 0.568, -0.05 0.545")
_TONGUE = ellipse((0.0, 0.558), 0.036, 0.024, steps=18)
_FROWN = smooth("-0.048 0.535, -0.028 0.512, 0 0.505, 0.028 0.512, 0.048 0.535", closed=False)
_GRIT = smooth("-0.052 0.505, 0.052 0.505, 0.06 0.54, -0.06 0.54")
_SOB = smooth("-0.045 0.535, -0.03 0.507, 0 0.498, 0.03 0.507, 0.045 0.535, 0.02 0.543, 0 0.533, -0.02 0.543")
_CAT = smooth("-0.055 0.498, -0.03 0.52, 0 0.502, 0.03 0.52, 0.055 0.498", closed=False)
_CAT_OPEN = smooth("-0.03 0.517, 0 0.504, 0.03 0.517, 0 0.553")
_TEAR = smooth("0.072 0.484, 0.115 0.492, 0.158 0.478, 0.178 0.535, 0.17 0.578, 0.128 0.6, 0.086 0.582, 0.07 0.535")
_TEAR_SHINE = smooth("0.085 0.5, 0.1 0.505, 0.1 0.55, 0.085 0.54")
_VEIN = [
    smooth("-0.083 0.187, -0.053 0.194, -0.046 0.157", closed=False, steps=5),
    smooth("-0.023 0.157, -0.016 0.192, 0.014 0.184", closed=False, steps=5),
    smooth("0.014 0.217, -0.016 0.212, -0.023 0.249", closed=False, steps=5),
    smooth("-0.046 0.249, -0.053 0.215, -0.083 0.219", closed=False, steps=5),
]  # fmt: skip


def draw_head(brush: Brush) -> None:
    """Ears, skin, the shadow of the fringe and blush."""
    for ear in (_EAR, mirror(_EAR)):
        brush.fill(ear, SKIN.base, ink=SKIN_LINE)
    brush.fill(_HEAD, SKIN.base, ink=SKIN_LINE)
    brush.shade(_HEAD, _FRINGE_SHADE, SKIN.shade, opacity=0.85 * brush.style.shade)
    for x in (-0.165, 0.165):
        cheek = ellipse((x, 0.487), 0.058, 0.036, steps=20)
        brush.shade(_HEAD, cheek, BLUSH, opacity=0.62, soft=0.03, hatch=False)


def _eye(brush: Brush, tone: Tone, expression: str, *, side: int) -> None:
    """One open eye; side is 1 on the right of the picture and -1 on the left. Sparks are not mirrored: one lamp lights both."""

    def place(points: Points, *, lit: bool = False) -> Points:
        return moved(points if side > 0 or lit else mirror(points), side * EYE[0], EYE[1])

    white = place(_WHITE)
    brush.fill(white, WHITE, outline=0)
    brush.shade(white, place(_LASH_SHADE), (196, 196, 224), soft=0, hatch=False)
    iris = place(_IRIS)
    brush.fill(iris, tone.base, outline=0)
    brush.shade(iris, place(_IRIS_DARK), tone.shade, soft=0.012, hatch=False, opacity=0.9)
    brush.shade(iris, place(_IRIS_GLOW), tone.light, soft=0.01, hatch=False)
    brush.line(iris, mix(tone.shade, INK, 0.45), 0.007, closed=True)
    brush.fill(place(_PUPIL), mix(tone.shade, (10, 0, 20), 0.72), outline=0)
    brush.fill(place(_SPARK, lit=True), WHITE, outline=0)
    brush.fill(place(_SPARK_SMALL, lit=True), WHITE, outline=0)
    if expression == "angry":
        brush.fill(place(_ANGRY_LID), mix(SKIN.base, SKIN.shade, 0.6), outline=0)
        brush.fill(place(limb((-0.082, -0.006), (0.094, -0.076), 0.013, 0.015)), INK, outline=0)
    else:
        brush.fill(place(_LID), INK, outline=0)
    brush.line(place(_LOWER), mix(INK, SKIN_LINE, 0.4), 0.007)


def draw_eyes(brush: Brush, tone: Tone, expression: str) -> None:
    _eye(brush, tone, expression, side=-1)
    if expression != "one_eye_closed":
        _eye(brush, tone, expression, side=1)
        return
    brush.line(moved(_WINK, *EYE), INK, 0.021)
    for lash in _WINK_LASH:
        brush.line(moved(lash, *EYE), INK, 0.011)


def draw_mouth(brush: Brush, expression: str) -> None:
    lip: Color = (150, 46, 62)
    if expression == "smile":
        brush.line(_SMILE, lip, 0.012)
    elif expression == "open_mouth":
        brush.fill(_OPEN, (196, 44, 66), outline=0)
        brush.shade(_OPEN, _TONGUE, (255, 136, 140), soft=0, hatch=False)
        brush.line(_OPEN, (112, 24, 48), 0.009, closed=True)
    elif expression == "angry":
        brush.fill(_GRIT, WHITE, outline=0)
        brush.line(_GRIT, (112, 24, 48), 0.011, closed=True)
        brush.line(smooth("-0.056 0.522, 0.056 0.522", closed=False), (112, 24, 48), 0.006)
    elif expression == "crying":
        brush.fill(_SOB, (196, 44, 66), outline=0)
        brush.line(_SOB, (112, 24, 48), 0.009, closed=True)
    else:
        brush.fill(_CAT_OPEN, (226, 78, 92), outline=0)
        brush.line(_CAT, lip, 0.011)


def draw_over_hair(brush: Brush, expression: str, hair: Tone) -> None:
    """What anime draws over the fringe: brows, tears and the mark of anger."""
    brow = mix(hair.shade, (40, 16, 36), 0.55)
    for shape in (_BROWS[expression], mirror(_BROWS[expression])):
        brush.fill(shape, brow, outline=0)
    if expression == "crying":
        for flip in (False, True):
            tear, shine = (mirror(_TEAR), mirror(_TEAR_SHINE)) if flip else (_TEAR, _TEAR_SHINE)
            brush.fill(tear, (120, 204, 255), outline=0.6, ink=(40, 120, 220))
            brush.fill(shine, WHITE, outline=0)
    if expression == "angry":
        for path in _VEIN:
            brush.line(path, WHITE, 0.030)
        for path in _VEIN:
            brush.line(path, (236, 24, 40), 0.015)
