"""Whose weights lie at a path: the family and flavour that take them. Knows configs of models and headers; reads no weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ..core.errors import AnimeflowError, ConfigError
from ..model import registry
from ..model.likeness import looks_like
from .build import build
from .compose import choices, compose, config_folder
from .show.header import read_header

PARTS = ("weights", "codec", "text", "tokenizers")  # options that name files: those that lie with the weights, or none
SMALL = "tiny"  # the flavour that takes weights of any size, so it is asked last


def base_family(path: str | Path, family: str | None = None, *, where: str = "--base") -> Any:
    """The family, of the flavour that the weights at `path` are; they are read when its backbone is asked for.

    Args:
        family: the only one that may be.
    Raises:
        ConfigError: there is nothing, or no family takes it; it says why each did not.
    """
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"there is no {path}", where=where, do="give a diffusers folder, or a .safetensors file")
    refusals: dict[str, str] = {}
    for node in _models(family):
        name = node.pop("family")
        make = registry.constructor(name)
        options = {key: value for key, value in node.items() if key not in PARTS}
        try:
            fam = build(make, {**options, **make.weights_at(path)}, where=where)
            fam.outline()
        except (AnimeflowError, OSError, ValueError, KeyError) as error:
            refusals[name] = getattr(error, "what", None) or f"{type(error).__name__}: {error}"
            continue
        return fam
    kind = likeness(path)
    raise ConfigError(
        f"this is no base{f' of {family}' if family else ''}" + (f": it looks like {kind}" if kind else ""),
        where=f"{where} {path}",
        why="; ".join(f"{name}: {what}" for name, what in refusals.items()),
        do=f"give a model of {family or ' or '.join(registry.names())}: a diffusers folder or a .safetensors file",
    )


def likeness(path: Path) -> str | None:
    """What the tensors at `path` look like by their names; None where nothing tells."""
    inner = path / "transformer" if (path / "transformer").is_dir() else path
    try:
        every = [inner] if inner.is_file() else sorted(inner.glob("*.safetensors"))
        return looks_like(name for file in every for name in read_header(file).tensors)
    except (AnimeflowError, OSError):
        return None


def _models(family: str | None) -> list[dict[str, Any]]:
    """Nodes of `configs/model`, the small ones last."""
    nodes = [dict(_composed(name)) for name in choices(config_folder(), "model")]
    nodes = [node for node in nodes if family in (None, node["family"])]
    return sorted(nodes, key=lambda node: node.get("flavour") == SMALL)


@cache
def _composed(name: str) -> dict[str, Any]:
    return dict(compose([f"model={name}"])["model"])
