"""All signs of origin that a picture's file holds. Knows the places to look; decides nothing."""

from __future__ import annotations

from ..picture import Limits, Picture
from .sign import Sign

VERSION = 1
"""Raise it when the same file would give other signs or measures: unchanged files are then screened again."""


def screen(data: bytes, picture: Picture, *, limits: Limits | None = None) -> tuple[Sign, ...]:
    """Signs in a file that was decoded, strongest first. Never raises for a broken file: a broken place holds no sign."""
    return ()
