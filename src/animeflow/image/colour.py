"""Embedded colour profiles to sRGB. Knows LittleCMS through Pillow; knows no file."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
KEPT = 64


@dataclass(frozen=True)
class Conversion:
    """A profile seen from one pixel layout. `transform` is None when the profile already is sRGB."""

    name: str
    transform: ImageCms.ImageCmsTransform | None


_kept: OrderedDict[tuple[str, str], Conversion] = OrderedDict()
_lock = threading.Lock()  # pictures are decoded in threads too


def to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> tuple[Image.Image, str | None]:
    """`image` (L, RGB or CMYK) as sRGB RGB, and the profile's name.

    A profile that cannot be read, or is of another colour space than the pixels, is noted and ignored.
    """
    name = None
    if profile:
        try:
            conversion = _conversion(profile, image.mode)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("icc_broken")
        else:
            if conversion is None:
                notes.append("icc_wrong_space")
            else:
                name = conversion.name
                if conversion.transform is not None:
                    return _apply(image, conversion.transform), name
    if image.mode == "CMYK":
        notes.append("cmyk_without_profile")
    return image if image.mode == "RGB" else image.convert("RGB"), name


def _conversion(profile: bytes, mode: str) -> Conversion | None:
    """The transform of a profile for pixels of `mode`, kept for the next file; None when its colour space is another one."""
    key = (hashlib.sha256(profile).hexdigest(), mode)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space.strip() != SPACES[mode]:
        return None
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", INTENT, FLAGS)
    name = " ".join((source.profile.profile_description or "unnamed").replace("\0", "").split())[:80]
    conversion = Conversion(name, None if mode == "RGB" and _changes_nothing(transform) else transform)
    with _lock:
        _kept[key] = conversion
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return conversion


def _apply(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    done = ImageCms.applyTransform(image, transform)
    assert done is not None  # only in-place transforms return nothing
    return done


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a profile is sRGB in effect, whatever it is called: no colour of a coarse cube moves by more than one level."""
    levels = np.linspace(0, 255, 18).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    moved = np.asarray(_apply(Image.fromarray(cube), transform))
    return bool(np.abs(moved.astype(int) - cube).max() <= 1)
