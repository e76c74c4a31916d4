"""A model that somebody wants to train on, looked over: family, flavour, dtype, the parts that come with it. Reads headers only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import AnimeflowError, DataError
from ...model import registry
from ..compose import config_folder
from ..wiring import family
from .finding import Finding, error, ok, warning
from .models import WORDS, incomplete
from .presets import presets

NAME = "base"
LARGEST_HEADER = 100 * 2**20


def look(path: Path) -> list[Finding]:
    """The model at `path`: a file or a folder of any layout."""
    if not path.exists():
        return [error(NAME, f"there is nothing at {path}", do="give the folder or file of the model: --base PATH")]
    broken = list(incomplete(path))
    if broken:
        return [error(NAME, "; ".join(broken), why="it was copied only in part", do="copy or download it again")]
    refusals: dict[str, AnimeflowError] = {}
    for name in registry.names():
        try:
            node = dict(registry.constructor(name).weights_at(path))
            preset, fam = _flavour(name, node)
        except AnimeflowError as refusal:
            refusals[name] = refusal
            continue
        return [_told(path, preset, fam, node), *_parts(preset, node)]
    return [_unknown(path, refusals)]


def _flavour(name: str, node: Mapping[str, Any]) -> tuple[str, Any]:
    """The preset of the family that fits the weights, and the family; `tiny` is any size, so it is tried last."""
    settings = {each: node for each, node in presets().items() if node["family"] == name}
    last: AnimeflowError | None = None
    for each in sorted(settings, key=lambda each: settings[each].get("weights") is None):
        lying = {**settings[each], **dict.fromkeys(("codec", "text", "tokenizers") & settings[each].keys()), **node}
        try:
            return each, family({"model": lying, "seed": 0})
        except AnimeflowError as refusal:
            last = refusal
    raise last or DataError(f"no preset of {name}", where=str(config_folder()))


def _told(path: Path, preset: str, fam: Any, node: Mapping[str, Any]) -> Finding:
    kinds = dtypes(Path(str(node["weights"])))
    words = ", ".join(f"{kind} ({share:.0%})" if share < 0.995 else kind for kind, share in kinds.items())
    return ok(NAME, f"{path} is {fam.name}/{fam.flavour} (model={preset}){f', {words}' if words else ''}")


def _parts(preset: str, node: Mapping[str, Any]) -> list[Finding]:
    """What has to come from elsewhere, and whether it is where the preset looks for it."""
    settings = presets()[preset]
    found = []
    for part in ("codec", "text", "tokenizers"):
        if part not in settings and part == "tokenizers":
            continue
        title = f"{NAME}: {WORDS[part]}"
        if part in node:
            found.append(ok(title, f"at {node[part]}" if node[part] else "comes with it"))
        elif settings.get(part) is None:
            found.append(
                warning(
                    title, "does not come with it", do=f"give it with model.{part}=PATH, or a whole diffusers folder"
                )
            )
        elif Path(str(settings[part])).exists():
            found.append(ok(title, f"at {settings[part]}"))
        else:
            do = f"put it at {settings[part]}, or give model.{part}=PATH"
            found.append(warning(title, f"does not come with it, and is not at {settings[part]}", do=do))
    return found


def _unknown(path: Path, refusals: Mapping[str, AnimeflowError]) -> Finding:
    """Of none of our families: what it looks like, and what the nearest family said."""
    from ...model.likeness import looks_like

    try:
        kind = looks_like(header(path)) if path.is_file() else None
    except (DataError, OSError):
        kind = None
    said = "; ".join(f"{name}: {refusal.what}" for name, refusal in refusals.items())
    what = f"{path} looks like {kind}" if kind else f"{path} is no model that can be trained here"
    return error(NAME, what, why=said, do=f"give a model of one of the families: {', '.join(registry.names())}")


def header(file: Path) -> dict[str, Any]:
    """Names, dtypes and shapes of a safetensors file, without its strings. Raises DataError for another file."""
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 2 <= length <= min(LARGEST_HEADER, file.stat().st_size):
            raise DataError("this is no safetensors file", where=str(file), do="give a .safetensors file or a folder")
        try:
            told = json.loads(opened.read(length))
        except ValueError as wrong:
            raise DataError("this is no safetensors file", where=str(file)) from wrong
    told.pop("__metadata__", None)
    return told


def dtypes(path: Path) -> dict[str, float]:
    """Share of each dtype among the numbers of a file, or of the `transformer` of a folder."""
    if path.is_dir():
        inner = path / "transformer" if (path / "transformer").is_dir() else path
        files = sorted(inner.glob("*.safetensors"))
    else:
        files = [path]
    counts: Counter[str] = Counter()
    for file in files:
        for tensor in header(file).values():
            first, last = tensor["data_offsets"]
            counts[tensor["dtype"].lower()] += last - first
    total = sum(counts.values()) or 1
    return {kind: number / total for kind, number in counts.most_common()}
