"""All signs of origin that a picture's file holds. Knows the places to look; decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from ..picture import Limits, Picture
from . import containers, exif, jpeg, png, statements, stealth, words
from .invisible import invisible
from .packed import unpacked
from .places import BROKEN, Places
from .sign import GRADES, KINDS, SAYS, Sign
from .tiled import tiled

VERSION = 2
"""Raise it when the same file would give other signs or measures: unchanged files are then screened again."""

READERS: dict[str, Callable[[bytes, Places], None]] = {
    "PNG": png.read,
    "JPEG": jpeg.read,
    "WEBP": containers.read_webp,
    "GIF": containers.read_gif,
    "AVIF": containers.read_avif,
    "TIFF": containers.read_tiff,
}


def screen(data: bytes, picture: Picture, *, limits: Limits | None = None) -> tuple[Sign, ...]:
    """Signs in a file that was decoded, strongest first. Never raises for a broken file: a broken place holds no sign."""
    return screened(data, picture, limits=limits)[0]


def screened(
    data: bytes, picture: Picture, *, limits: Limits | None = None
) -> tuple[tuple[Sign, ...], tuple[str, ...]]:
    """The same, and slugs of places that are there and could not be read, for counting."""
    places = Places(left=(limits or Limits()).max_text_bytes)
    found = _written(data, picture.facts.format, places)
    _look(found, _hidden, data, picture, places)
    _look(found, invisible, picture)
    return _strongest_first(found), tuple(dict.fromkeys(places.notes))


def written(data: bytes, form: str, *, limits: Limits | None = None) -> tuple[Sign, ...]:
    """Signs in what is written beside the pixels, of a file whose format is known; it does not have to be decoded."""
    return _strongest_first(_written(data, form, Places(left=(limits or Limits()).max_text_bytes)))


def _written(data: bytes, form: str, places: Places) -> list[Sign]:
    found: list[Sign] = []
    _look(found, _read, data, form, places)
    for packet in places.exif:
        _look(found, _exif, packet, places)
    for packet in places.xmp:
        _look(found, statements.xmp, packet)
    for blob in places.c2pa:
        _look(found, _manifests, blob, places)
    _look(found, _texts, places.texts)
    return found


def _strongest_first(found: list[Sign]) -> tuple[Sign, ...]:
    kept = {(sign.grade, sign.says, sign.kind, sign.tool): sign for sign in reversed(found)}
    return tuple(sorted(kept.values(), key=_rank))


def _look(found: list[Sign], read: Callable[..., list[Sign]], *what: object) -> None:
    try:
        found.extend(read(*what))
    except BROKEN:
        return  # a broken place holds no sign; the others are still looked at


def _read(data: bytes, form: str, places: Places) -> list[Sign]:
    reader = READERS.get(form)
    if reader is not None:
        reader(data, places)
    return []


def _manifests(blob: bytes, places: Places) -> list[Sign]:
    return statements.c2pa(unpacked(blob, places))


def _rank(sign: Sign) -> tuple[int, int, int, str]:
    return GRADES.index(sign.grade), SAYS.index(sign.says), KINDS.index(sign.kind), sign.tool


def _texts(texts: list[tuple[str, str, str]]) -> list[Sign]:
    found = [sign for _, key, text in texts if key == "aigc" for sign in statements.label(text)]
    for kind, group in groupby(sorted(texts, key=lambda text: text[0]), key=lambda text: text[0]):
        found += words.signs(kind, ((key, text) for _, key, text in group))
    return found


def _exif(blob: bytes, places: Places) -> list[Sign]:
    pairs, found = [], list[Sign]()
    for tag, value in exif.values(blob):
        if tag == exif.XMP:
            places.xmp.append(value)
        elif tag == exif.C2PA:
            places.c2pa.append(value)
        else:
            pairs += [(exif.NAMES.get(tag, ""), text) for text in exif.texts(tag, value)]
    for _, text in pairs:
        if (at := text[: 1 << 16].find("AIGC")) >= 0:
            found += statements.label(text[at:])
    return found + words.signs("exif", pairs)


def _hidden(data: bytes, picture: Picture, places: Places) -> list[Sign]:
    text = stealth.hidden(data, picture, places)
    if text is None:
        return []
    facts = words.json_object(text) if len(text) <= words.MAX_JSON else None
    pairs = [(key.lower(), value) for key, value in (facts or {}).items() if isinstance(value, str)]
    named = words.signs("stealth", [("stealth", text), *pairs])
    # 15 letters in the lowest bits are no chance, whatever the text behind them says
    return named or [Sign("certain", "ai", "stealth", "", words.detail(text))]


def measures(picture: Picture) -> tuple[tuple[str, float], ...]:
    """What can be measured of visible watermarks, as (name, value from 0 to 1). A queue for people, never a verdict."""
    return (("tiled", tiled(picture.pixels)),)
