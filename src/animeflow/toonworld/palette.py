"""Colours and light. A light is one affine map per channel, so that grading layers and grading their composite agree."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

Color = tuple[float, float, float]  # RGB, 0..255

INK: Color = (46, 34, 52)
WHITE: Color = (255, 255, 255)


@dataclass(frozen=True)
class Tone:
    """The three colours of one material: lit, in shade, and highlight."""

    base: Color
    shade: Color
    light: Color


def mix(a: Color, b: Color, share: float) -> Color:
    """`share` of b in a."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def tone(base: Color, *, depth: float = 0.3, lift: float = 0.45) -> Tone:
    """A tone from its lit colour: shade turns to violet, light turns to white."""
    return Tone(base, mix(base, (70, 40, 110), depth), mix(base, WHITE, lift))


HAIR: MappingProxyType[str, Tone] = MappingProxyType(
    {
        "black_hair": Tone((62, 56, 78), (36, 32, 52), (134, 124, 170)),
        "blonde_hair": Tone((252, 216, 104), (228, 162, 66), (255, 246, 196)),
        "red_hair": Tone((226, 60, 52), (164, 28, 54), (255, 150, 124)),
        "blue_hair": Tone((66, 126, 236), (40, 74, 182), (152, 210, 255)),
        "green_hair": Tone((78, 190, 96), (34, 132, 88), (178, 242, 150)),
        "pink_hair": Tone((255, 150, 192), (226, 96, 162), (255, 214, 228)),
        "purple_hair": Tone((168, 82, 206), (112, 40, 152), (224, 160, 246)),
        "white_hair": Tone((240, 242, 250), (184, 194, 224), (255, 255, 255)),
    }
)
EYES: MappingProxyType[str, Tone] = MappingProxyType(
    {
        "blue_eyes": Tone((36, 120, 255), (12, 44, 168), (130, 220, 255)),
        "green_eyes": Tone((30, 186, 80), (0, 92, 62), (170, 255, 140)),
        "red_eyes": Tone((240, 40, 56), (138, 0, 40), (255, 150, 120)),
        "purple_eyes": Tone((164, 70, 240), (80, 16, 150), (236, 160, 255)),
        "yellow_eyes": Tone((255, 196, 20), (196, 104, 0), (255, 248, 150)),
    }
)
SKIN = Tone((255, 229, 211), (246, 190, 172), (255, 244, 234))
SKIN_LINE: Color = (168, 84, 78)
BLUSH: Color = (255, 128, 132)
MARK: MappingProxyType[str, Color] = MappingProxyType(
    {
        "gold": (255, 206, 40),
        "cyan": (40, 226, 236),
        "lime": (170, 236, 40),
        "coral": (255, 96, 92),  # this and the following: guests alone
        "azure": (44, 92, 250),
        "pearl": (250, 246, 255),
    }
)


@dataclass(frozen=True)
class Light:
    """Colours of one time of day. `grade` is for figures, `grade_far` for what stands behind them, `sky` runs downwards."""

    name: str
    gain: Color
    offset: Color
    far_gain: Color
    far_offset: Color
    sky: tuple[Color, Color, Color]
    cloud: Color
    cloud_shade: Color

    def grade(self, color: Color) -> Color:
        return _affine(color, self.gain, self.offset)

    def grade_far(self, color: Color) -> Color:
        return _affine(color, self.far_gain, self.far_offset)


def _affine(color: Color, gain: Color, offset: Color) -> Color:
    r, g, b = (min(255.0, c * m + o) for c, m, o in zip(color, gain, offset, strict=True))
    return (r, g, b)


LIGHTS: MappingProxyType[str, Light] = MappingProxyType(
    {
        light.name: light
        for light in (
            Light(
                "night", (0.58, 0.57, 0.68), (2, 4, 16), (0.22, 0.26, 0.44), (4, 6, 20),
                ((10, 14, 48), (28, 36, 92), (64, 70, 140)), (74, 84, 150), (46, 54, 112),
            ),
            Light(
                "sunset", (0.98, 0.82, 0.70), (6, 0, 4), (0.84, 0.62, 0.54), (26, 6, 20),
                ((112, 72, 158), (242, 120, 104), (255, 204, 120)), (255, 184, 156), (224, 122, 140),
            ),
            Light(
                "day", (1, 1, 1), (0, 0, 0), (1, 1, 1), (0, 0, 0),
                ((52, 142, 240), (116, 194, 255), (196, 234, 255)), (255, 255, 255), (204, 226, 248),
            ),
            Light(
                "overexposed", (0.66, 0.66, 0.66), (88, 88, 88), (0.36, 0.36, 0.36), (162, 162, 162),
                ((222, 240, 255), (240, 249, 255), (255, 255, 255)), (255, 255, 255), (238, 246, 255),
            ),
        )
    }
)  # fmt: skip
