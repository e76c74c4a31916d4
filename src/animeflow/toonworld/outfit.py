"""Bodies and clothes, one function per outfit. Knows legs, trunk and sleeves; knows no head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from animeflow.toonworld.brush import Brush
from animeflow.toonworld.curve import Points, ellipse, limb, mirror, moved, polygon, smooth, star, symmetric
from animeflow.toonworld.palette import SKIN, SKIN_LINE, WHITE, Color, tone

SHOULDER = (0.082, 0.648)
HAND_DOWN = (0.192, 0.765)
HAND_UP = (0.343, 0.482)
FOOT = (0.066, 0.975)

NAVY, CRIMSON, GOLD = (44, 62, 142), (206, 38, 62), (250, 196, 62)
TEAL, ORANGE, STEEL, BLACK = (52, 206, 196), (255, 156, 44), (176, 190, 214), (52, 46, 62)

_TRUNK = symmetric("0 0.585, 0.05 0.592, 0.1 0.625, 0.104 0.68, 0.096 0.74, 0.105 0.8, 0 0.815")
_TRUNK_SHADE = smooth("-0.12 0.57, 0.12 0.57, 0.12 0.64, 0 0.655, -0.12 0.64")
_BELL = symmetric("0 0.715, 0.094 0.72, 0.135 0.785, 0.192 0.862*, 0.145 0.882, 0.098 0.87, 0.05 0.888, 0 0.874")
_BELL_SHADE = smooth("-0.21 0.82, -0.1 0.845, 0.02 0.825, 0.06 0.74, 0.11 0.72, 0.23 0.86, 0.1 0.93, -0.2 0.92")
_ROBE = symmetric("0 0.585, 0.05 0.592, 0.105 0.625, 0.108 0.7, 0.125 0.8, 0.158 0.935*, 0 0.945")
_ROBE_SHADE = smooth("0.02 0.76, 0.06 0.64, 0.13 0.62, 0.2 0.95, 0.03 0.97")


@dataclass(frozen=True)
class Sleeve:
    """Sleeves of one outfit: colour, half widths at shoulder and cuff, how far they reach along the arm (0..1), cuff colour."""

    color: Color
    shoulder: float
    cuff: float
    reach: float
    trim: Color | None = None
    glove: Color | None = None


SLEEVES: dict[str, Sleeve] = {
    "school_uniform": Sleeve(WHITE, 0.044, 0.050, 0.62, trim=NAVY),
    "kimono": Sleeve(CRIMSON, 0.042, 0.072, 0.78, trim=(255, 236, 214)),
    "dress": Sleeve((255, 255, 255), 0.056, 0.052, 0.40),
    "hoodie": Sleeve(ORANGE, 0.050, 0.056, 0.88, trim=(214, 112, 22)),
    "maid": Sleeve(BLACK, 0.052, 0.046, 0.80, trim=WHITE),
    "armor": Sleeve((70, 84, 128), 0.040, 0.044, 0.55, glove=STEEL),
}


def _legs(brush: Brush, skin: Color, sock: Color, sock_top: float, shoe: Color) -> None:
    for side in (-1, 1):
        x = side * FOOT[0]
        shin = limb((side * 0.054, 0.78), (x, 0.955), 0.042, 0.034)
        brush.fill(shin, skin, ink=SKIN_LINE)
        brush.shade(shin, smooth("-0.2 0.75, 0.2 0.75, 0.2 0.885, -0.2 0.885"), SKIN.shade, opacity=0.8, hatch=False)
        brush.fill(limb((x - side * 0.004, sock_top), (x, 0.957), 0.040, 0.036), sock, outline=0.8)
        brush.fill(ellipse((x + side * 0.006, 0.972), 0.054, 0.030, steps=18), shoe)


def _cloth(brush: Brush, shape: Points, color: Color, shade: Points) -> None:
    """One garment with its shade."""
    material = tone(color)
    brush.fill(shape, material.base)
    brush.shade(shape, shade, material.shade, opacity=0.85 * brush.style.shade)


def _trunk(brush: Brush, color: Color) -> None:
    brush.fill(limb((0, 0.56), (0, 0.612), 0.042, 0.045), SKIN.shade, ink=SKIN_LINE)
    _cloth(brush, _TRUNK, color, _TRUNK_SHADE)


def _bow(brush: Brush, center: tuple[float, float], size: float, color: Color) -> None:
    x, y = center
    loop = smooth([(x, y), (x + size, y - 0.6 * size), (x + 1.15 * size, y + 0.1 * size), (x + size, y + 0.6 * size)])
    brush.fill(loop, color, outline=0.7)
    brush.fill(moved(mirror(loop), 2 * x), color, outline=0.7)
    brush.fill(ellipse(center, 0.28 * size, 0.3 * size, steps=14), color, outline=0.7)


def _school_uniform(brush: Brush) -> None:
    _legs(brush, SKIN.base, (40, 42, 66), 0.875, (122, 62, 44))
    _trunk(brush, (255, 255, 255))
    _cloth(brush, _BELL, NAVY, _BELL_SHADE)
    for x in (-0.09, -0.03, 0.03, 0.09):
        brush.line(polygon([(x * 0.75, 0.74), (x * 1.5, 0.868)]), (26, 36, 96), 0.007)
    collar = symmetric("0 0.605, 0.07 0.592, 0.118 0.632, 0.088 0.672, 0.045 0.676, 0 0.7")
    brush.fill(collar, NAVY)
    brush.line(smooth("-0.098 0.642, -0.055 0.66, 0 0.684, 0.055 0.66, 0.098 0.642", closed=False), WHITE, 0.009)
    _bow(brush, (0, 0.69), 0.052, (232, 42, 60))


def _kimono(brush: Brush) -> None:
    _legs(brush, SKIN.base, (250, 250, 255), 0.90, (112, 70, 50))
    brush.fill(limb((0, 0.56), (0, 0.612), 0.042, 0.045), SKIN.shade, ink=SKIN_LINE)
    _cloth(brush, _ROBE, CRIMSON, _ROBE_SHADE)
    for x, y, size in ((-0.085, 0.90, 0.034), (0.035, 0.855, 0.030), (-0.055, 0.815, 0.022), (0.108, 0.915, 0.026)):
        brush.fill(star((x, y), size, inner=0.72), (255, 206, 214), outline=0)
        brush.fill(ellipse((x, y), size * 0.3, size * 0.3, steps=10), GOLD, outline=0)
    brush.line(polygon("-0.085 0.6, 0.02 0.715"), (255, 236, 214), 0.022)
    brush.line(polygon("0.085 0.6, -0.012 0.69"), (255, 236, 214), 0.022)
    obi = smooth("-0.116 0.7*, 0.116 0.7*, 0.124 0.785*, -0.124 0.785*")
    _cloth(brush, obi, GOLD, smooth("0.03 0.69, 0.15 0.69, 0.15 0.8, 0.05 0.8"))
    brush.line(polygon("-0.118 0.742, 0.118 0.742"), (34, 116, 110), 0.018)


def _dress(brush: Brush) -> None:
    _legs(brush, SKIN.base, WHITE, 0.915, (236, 92, 140))
    _trunk(brush, TEAL)
    frill = symmetric(
        "0 0.8, 0.16 0.8, 0.222 0.872, 0.205 0.905, 0.165 0.898, 0.125 0.915, 0.085 0.902, 0.043 0.918, 0 0.904"
    )
    brush.fill(frill, WHITE)
    _cloth(brush, _BELL, TEAL, _BELL_SHADE)
    for x, y in ((-0.115, 0.835), (-0.05, 0.80), (0.005, 0.845), (0.06, 0.795), (0.125, 0.84)):
        brush.fill(ellipse((x, y), 0.012, 0.012, steps=10), WHITE, outline=0)
    bib = symmetric("0 0.615, 0.042 0.6, 0.062 0.625, 0.045 0.665, 0 0.7")
    brush.fill(bib, WHITE, outline=0.7)
    brush.line(polygon("-0.098 0.727, 0.098 0.727"), (240, 104, 150), 0.026)
    _bow(brush, (0, 0.727), 0.05, (240, 104, 150))


def _hoodie(brush: Brush) -> None:
    _legs(brush, (74, 84, 104), WHITE, 0.915, (66, 178, 232))
    hood = symmetric("0 0.565, 0.1 0.565, 0.15 0.6, 0.132 0.655, 0.06 0.675, 0 0.68")
    body = symmetric("0 0.6, 0.06 0.6, 0.118 0.635, 0.132 0.72, 0.14 0.82, 0.125 0.855, 0 0.865")
    _cloth(brush, body, ORANGE, smooth("0.03 0.78, 0.08 0.62, 0.2 0.62, 0.2 0.9, -0.14 0.9, -0.12 0.82"))
    brush.fill(smooth("-0.128 0.828, 0.128 0.828, 0.122 0.866, -0.122 0.866"), (214, 112, 22), outline=0.7)
    pocket = smooth("-0.055 0.745*, 0.055 0.745*, 0.088 0.815*, -0.088 0.815*")
    brush.fill(pocket, (255, 178, 88), outline=0.7)
    _cloth(brush, hood, ORANGE, smooth("-0.12 0.56, 0.12 0.56, 0.09 0.625, 0 0.64, -0.09 0.625"))
    for x in (-0.034, 0.034):
        brush.line(polygon([(x, 0.662), (x * 1.15, 0.728)]), WHITE, 0.013)


def _maid(brush: Brush) -> None:
    _legs(brush, SKIN.base, WHITE, 0.865, (40, 34, 48))
    _trunk(brush, BLACK)
    hem = symmetric("0 0.81, 0.16 0.815, 0.215 0.872, 0.19 0.898, 0.145 0.888, 0.098 0.902, 0.05 0.89, 0 0.902")
    brush.fill(hem, WHITE)
    _cloth(brush, _BELL, BLACK, _BELL_SHADE)
    apron = symmetric("0 0.725, 0.075 0.725, 0.1 0.79, 0.11 0.842, 0.075 0.862, 0.038 0.852, 0 0.866")
    brush.fill(apron, WHITE)
    brush.shade(apron, smooth("0.02 0.72, 0.15 0.72, 0.15 0.9, 0.05 0.9"), (206, 206, 230), opacity=0.9)
    bib = smooth("-0.052 0.648*, 0.052 0.648*, 0.062 0.73*, -0.062 0.73*")
    brush.fill(bib, WHITE, outline=0.7)
    for side in (-1, 1):
        brush.fill(ellipse((side * 0.092, 0.643), 0.030, 0.044, turn=side * 30, steps=16), WHITE, outline=0.7)
    brush.line(polygon("-0.094 0.728, 0.094 0.728"), WHITE, 0.020)
    _bow(brush, (0, 0.632), 0.045, (222, 40, 70))


def _armor(brush: Brush) -> None:
    cape = symmetric("0 0.61, 0.1 0.62, 0.185 0.78, 0.235 0.925*, 0.1 0.905, 0 0.92")
    _cloth(brush, cape, (138, 26, 52), symmetric("0 0.6, 0.13 0.62, 0.16 0.95, 0 0.96"))
    _legs(brush, (70, 84, 128), STEEL, 0.865, (150, 164, 192))
    _trunk(brush, (70, 84, 128))
    skirt = symmetric("0 0.74, 0.1 0.742, 0.16 0.855*, 0.1 0.835, 0.05 0.868, 0 0.84")
    _cloth(brush, skirt, (70, 84, 128), _BELL_SHADE)
    plate = symmetric("0 0.612, 0.065 0.606, 0.112 0.64, 0.112 0.69, 0.085 0.745, 0 0.775")
    _cloth(brush, plate, STEEL, smooth("0.02 0.78, 0.05 0.6, 0.15 0.6, 0.15 0.8"))
    brush.shade(plate, smooth("-0.085 0.64, -0.05 0.632, -0.055 0.7, -0.075 0.7"), WHITE, opacity=0.9, hatch=False)
    brush.line(polygon("0 0.62, 0 0.765"), GOLD, 0.014)
    brush.line(smooth("-0.096 0.735, 0 0.762, 0.096 0.735", closed=False), GOLD, 0.018)
    brush.fill(star((0, 0.678), 0.034, tips=4, inner=0.5), (60, 196, 255), outline=0.6)


_OUTFITS: dict[str, Callable[[Brush], None]] = {
    "school_uniform": _school_uniform,
    "kimono": _kimono,
    "dress": _dress,
    "hoodie": _hoodie,
    "maid": _maid,
    "armor": _armor,
}


def draw_body(brush: Brush, outfit: str) -> None:
    _OUTFITS[outfit](brush)


def draw_arm(brush: Brush, outfit: str, *, side: int, up: bool) -> None:
    """One arm with sleeve and hand; side is 1 on the right of the picture (the figure's left arm)."""
    sleeve, hand = SLEEVES[outfit], HAND_UP if up else HAND_DOWN
    start, end = (side * SHOULDER[0], SHOULDER[1]), (side * hand[0], hand[1])
    bend = (0.045 if up else -0.02) * side
    skin = sleeve.glove or SKIN.base
    brush.fill(limb(start, end, 0.034, 0.032, bend=bend), skin, ink=None if sleeve.glove else SKIN_LINE)
    cuff = (start[0] + (end[0] - start[0]) * sleeve.reach, start[1] + (end[1] - start[1]) * sleeve.reach)
    shape = limb(start, cuff, sleeve.shoulder, sleeve.cuff, bend=bend * sleeve.reach, cap=0.2)
    material = tone(sleeve.color, depth=0.24)
    brush.fill(shape, material.base)
    low = moved(shape, side * -0.004, 0.045) if up else moved(shape, side * 0.05, 0.03)
    brush.shade(shape, low, material.shade, opacity=0.8 * brush.style.shade)
    if sleeve.trim is not None:
        brush.fill(_band(start, cuff, sleeve.cuff * 1.06), sleeve.trim, outline=0.7)
    _hand(brush, end, skin, side=side, up=up)
    if outfit == "armor":
        pauldron = ellipse((side * 0.112, 0.648), 0.062, 0.056, turn=side * 25, steps=20)
        _cloth(brush, pauldron, STEEL, ellipse((side * 0.112 + 0.03, 0.685), 0.06, 0.04, steps=20))
        brush.line(ellipse((side * 0.112, 0.652), 0.04, 0.034, turn=side * 25, steps=18), GOLD, 0.010, closed=True)


def _band(start: tuple[float, float], end: tuple[float, float], half: float) -> Points:
    """A trim across the end of a sleeve."""
    length = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5
    ax, ay = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    corners = [(-0.012, half), (0.014, half), (0.014, -half), (-0.012, -half)]
    return polygon(
        [(end[0] + along * ax - across * ay, end[1] + along * ay + across * ax) for along, across in corners]
    )


def _hand(brush: Brush, center: tuple[float, float], color: Color, *, side: int, up: bool) -> None:
    x, y = center
    thumb = ellipse((x - side * 0.034, y + (0.0 if up else -0.012)), 0.017, 0.014, turn=side * -30, steps=12)
    brush.fill(thumb, color, ink=SKIN_LINE)
    brush.fill(ellipse(center, 0.042, 0.044, steps=20), color, ink=SKIN_LINE)
