"""peft's folder: tensors, and a JSON file that holds what scales them. Knows that JSON; knows no family.

In our tensors every layer has its alpha; peft has one for all, and patterns of names for the others.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.files import write_json
from ..model.lora_keys import ALPHA, DOWN, MAGNITUDE, taken_apart
from ..model.tensor_file import read_metadata, read_tensors, write_tensors

TENSORS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
INSIDE = (
    "base_model.model."  # before every name; what stands before this is a folder in the folder, for a second network
)
HEADER = (
    "lora_adapter_metadata"  # the same facts in the header of a file that diffusers saved, behind the network's name
)
NAME = re.compile(r"(?:[\w-]|\\?\.|\.\*)+")  # what an expression may consist of
PIECES = re.compile(r"\\\.|\.\*|.")
GLOB = {r"\.": ".", ".*": "*", ".": "?"}


def is_peft_folder(path: Path, *, within: Collection[str]) -> bool:
    return any((folder / CONFIG).is_file() for folder in _folders(path, within))


def write_folder(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[Path]:
    """Tensors with `.alpha` beside them -> files below `folder`, which exists."""
    networks: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        before, _, name = key.partition(INSIDE)
        networks.setdefault(before.removesuffix("."), {})[name] = tensor
    written = []
    for inner, part in networks.items():
        alphas = {apart[0]: float(part[key]) for key in part if (apart := _apart(key))[1] == ALPHA}
        kept = {INSIDE + key: tensor for key, tensor in part.items() if _apart(key)[1] != ALPHA}
        ranks = {apart[0]: part[key].shape[0] for key in part if (apart := _apart(key))[1] == DOWN}
        dora = any(_apart(key)[1] == MAGNITUDE for key in part)
        written.append(write_tensors(folder / inner / TENSORS, kept, metadata))
        write_json(folder / inner / CONFIG, _config(ranks, alphas, dora=dora))
        written.append(folder / inner / CONFIG)
    return written


def read_folder(path: Path, *, within: Collection[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors with `.alpha` beside them, strings of the header) of a folder.

    Args:
        within: names of folders in it that are of a second network; others, like peft's own `checkpoint-500`, are none.
    Raises:
        DataError: a file is missing or broken, or of another kind of addition.
    """
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for folder in _folders(path, within):
        if not (folder / CONFIG).is_file():
            continue
        if not (folder / TENSORS).is_file():
            raise DataError(f"there is no {TENSORS}", where=str(folder), do="save it with safe_serialization=True")
        part = read_tensors(folder / TENSORS)
        metadata |= read_metadata(folder / TENSORS)
        part |= alphas_of(_load(folder / CONFIG), part, where=str(folder / CONFIG))
        before = "" if folder == path else f"{folder.name}."
        tensors |= {before + key: tensor for key, tensor in part.items()}
    return tensors, metadata


def alphas_of_header(metadata: Mapping[str, str], tensors: Mapping[str, Tensor], *, where: str) -> dict[str, Tensor]:
    """`.alpha` of every layer of a file that diffusers saved, which keeps them in the header; {} for other files. ComfyUI does not
    read them there, and then scales by 1."""
    if HEADER not in metadata:
        return {}
    facts = _parsed(metadata[HEADER], where=where)
    found: dict[str, Tensor] = {}
    networks = {key.rpartition(".")[0] for key in facts if key.rpartition(".")[2] == "lora_alpha"}
    for network in networks:
        before = f"{network}." if network else ""
        config = {key.removeprefix(before): value for key, value in facts.items() if key.startswith(before)}
        part = {key: tensor for key, tensor in tensors.items() if key.startswith(before)}
        found |= alphas_of(config, part, where=where, before=before)
    return found


def alphas_of(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, where: str, before: str = INSIDE
) -> dict[str, Tensor]:
    """`.alpha` of every layer in `tensors`, by peft's rules; the scale is always alpha / rank afterwards.

    Raises:
        DataError: the settings are not those of a LoRA, or name layers by more than names and `.*`.
    """
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise DataError(f"{kind} is not supported", where=where, do="only LoRA is, with or without DoRA")
    alphas: dict[str, Tensor] = {}
    try:
        patterns = [(_pattern(key, where=where), float(a)) for key, a in (config.get("alpha_pattern") or {}).items()]
        for key, tensor in tensors.items():
            stem, what = taken_apart(key) or ("", "")
            if what == DOWN:
                name, rank = stem.removeprefix(before), tensor.shape[0]
                alpha = next((a for pattern, a in patterns if pattern.match(name)), float(config["lora_alpha"]))
                alpha = alpha * rank**0.5 if config.get("use_rslora") else alpha
                alphas[f"{stem}.alpha"] = torch.tensor(alpha)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"these are no settings of a LoRA: {error!r}", where=where, do="save it again") from error
    return {key: alpha for key, alpha in alphas.items() if key not in tensors}


def _pattern(key: str, *, where: str) -> re.Pattern[str]:
    """What peft makes of a name, `(.*\\.)?(key)$`, for names with `.`, `\\.`, `.*`, `|` and `^` or `$` at their ends. A stranger's
    expression is never run as it is: one of six letters can take longer than anyone waits."""
    found = []
    for name in key.split("|"):
        bare = name.removeprefix("^").removesuffix("$")
        if not NAME.fullmatch(bare):
            raise DataError(
                f"alpha_pattern has an expression that is not run here: {key[:80]!r}",
                where=where,
                why="an expression of a file can be one that never ends",
                do="write the names of the layers in its place",
            )
        glob = "".join(GLOB.get(piece, piece) for piece in PIECES.findall(bare))
        # `translate` matches each piece between two stars once and for all, so the time is no power of their number.
        found.append(("" if name.startswith("^") else r"(?:.*\.)?") + fnmatch.translate(glob))
    return re.compile("|".join(found))


def _config(ranks: Mapping[str, int], alphas: Mapping[str, float], *, dora: bool) -> dict[str, Any]:
    """As `peft.LoraConfig` reads it: the commonest rank and alpha, and the others by name."""
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "bias": "none",
        "lora_dropout": 0.0,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: own for name, own in ranks.items() if own != rank},
        "alpha_pattern": {name: own for name, own in alphas.items() if own != alpha},
        "target_modules": sorted(ranks),
        "use_dora": dora,
        "use_rslora": False,
    }


def _folders(path: Path, within: Collection[str]) -> list[Path]:
    """A folder and those in it that have these names."""
    return [path, *(path / name for name in sorted(within) if (path / name).is_dir())] if path.is_dir() else []


def _apart(key: str) -> tuple[str, str]:
    return taken_apart(key) or (key, "")


def _load(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_text(), where=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path), do="copy it again") from error


def _parsed(text: str, *, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is no whole JSON: {error}", where=where, do="copy or save it again") from error
    if not isinstance(found, dict):
        raise DataError("these are no settings of a LoRA", where=where, do="copy or save it again")
    return found
