"""Families found by folder: a package of `animeflow.model` that holds a `family.py` is one. Knows folders; knows no family's name.

Asking for names or for the size of a token loads no torch, so that shards can be checked before there is a codec.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .. import model as room
from ..core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:  # the protocol speaks of tensors, and so loads torch
    from .dialect import Dialect
    from .protocol import Family


def names() -> list[str]:
    """Names of all families, sorted. Nothing of them is imported."""
    return sorted({file.parent.name for folder in room.__path__ for file in Path(folder).glob("*/family.py")})


def cell(name: str) -> int:
    """Pixels along one side of a token (codec stride x patch): `CELL` of the family's package, which imports nothing.

    Raises:
        ConfigError: there is no such family.
    """
    return int(importlib.import_module(_module(name)).CELL)


def signs() -> list[tuple[str, str]]:
    """By which keys the files of our families are known: `SIGNS` of each package, pairs of a pattern and what it tells."""
    packages = [importlib.import_module(_module(name)) for name in names()]
    return [sign for package in packages for sign in getattr(package, "SIGNS", ())]


def kohya_header(name: str, flavour: str) -> dict[str, str]:
    """What kohya's scripts call this base in the header of a LoRA: `header` of its `kohya.py`; nothing where there is none."""
    module = f"{_module(name)}.kohya"
    if importlib.util.find_spec(module) is None:
        return {}
    return dict(importlib.import_module(module).header(flavour))


def dialects(name: str) -> Mapping[str, Dialect]:
    """The family's names for LoRA files. Where it keeps them in a module `lora` of its own, nothing of its networks is imported."""
    module = f"{_module(name)}.lora"
    if importlib.util.find_spec(module) is None:
        return constructor(name).dialects()
    found: Mapping[str, Dialect] = importlib.import_module(module).dialects()
    return found


def constructor(name: str) -> type[Family]:
    """What builds the family: `FAMILY` of its `family.py`.

    Raises:
        ConfigError: there is no such family.
    """
    found: type[Family] = importlib.import_module(f"{_module(name)}.family").FAMILY
    return found


def _module(name: str) -> str:
    known = names()
    if name not in known:
        raise ConfigError(
            f"unknown family '{name}'{did_you_mean(name, known)}",
            where="model.family",
            do=f"choose one of: {', '.join(known)}",
        )
    return f"{room.__name__}.{name}"
