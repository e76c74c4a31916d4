"""Artists: how lines, shadows and edges are drawn. Knows numbers; draws nothing."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from animeflow.toonworld.palette import INK, Color


@dataclass(frozen=True)
class Style:
    """One artist's hand. Lengths are in figure units (height of a figure = 1)."""

    name: str
    line: float  # width of outlines; 0 draws none
    ink: Color | None  # colour of outlines; None takes a darker shade of what they enclose
    softness: float  # blur of the edge between light and shade
    shade: float  # opacity of shades
    hatch: float = 0.0  # period of the stripes that shades are made of; 0 fills them
    border: float = 0.0  # width of a white border around the whole figure
    gloss: float = 1.0  # strength of highlights


STYLES: MappingProxyType[str, Style] = MappingProxyType(
    {
        style.name: style
        for style in (
            Style("bold_brush", line=0.019, ink=(30, 20, 36), softness=0.0, shade=1.0),
            Style("soft_wash", line=0.0, ink=None, softness=0.035, shade=1.0, gloss=0.7),
            Style("sticker_pop", line=0.009, ink=None, softness=0.0, shade=0.85, border=0.026),
            Style("ink_hatch", line=0.010, ink=INK, softness=0.0, shade=1.0, hatch=0.058, gloss=0.6),
        )
    }
)
