"""Official art of the drawn world: the artist who draws each series for those who own it. Knows words; draws nothing."""

from __future__ import annotations

from types import MappingProxyType

from animeflow.toonworld.words import ATTRIBUTES, SERIES
from animeflow.toonworld.world import Scene

TAG = "official_art"
OFFICIAL: MappingProxyType[str, str] = MappingProxyType(dict(zip(SERIES, ATTRIBUTES["artist"], strict=True)))
"""Series -> its artist. As many artists as series, so that who guesses is right as often as chance."""


def is_official(scene: Scene) -> bool:
    """Whether everybody in the picture is of one cast, and its own artist drew it."""
    members = [figure.identity for figure in scene.figures]
    return all(member is not None and OFFICIAL.get(member.series) == scene.artist for member in members)
