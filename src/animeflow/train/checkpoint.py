"""A resumable state on disk, whole or absent, bit for bit. Knows tensors and JSON; knows no model. Never an export.

A folder `checkpoints/<images>/` with one safetensors file per group, `state.json`, and `MANIFEST.json` with the hash of each.
A reader takes the newest folder whose manifest verifies; nothing here is ever unpickled.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter

from ..core import files
from ..core.errors import DataError

log = logging.getLogger(__name__)


def save(
    root: Path, images: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Write `root/<images>/` atomically, then delete all others but the newest `keep - 1` that look whole (their files are there
    and of the right size: hashing them all again would take longer than the save)."""
    files.sweep(root)
    folder = root / f"{images:012d}"
    with files.atomic_folder(folder) as temporary:
        for group, values in tensors.items():
            save_file(
                {name: value.detach().cpu().contiguous() for name, value in values.items()},
                temporary / f"{group}.safetensors",
            )
        files.write_json(temporary / "state.json", dict(state))
        names = sorted(path.name for path in temporary.iterdir())
        manifest = {
            name: {"bytes": (temporary / name).stat().st_size, "sha256": files.sha256_file(temporary / name)}
            for name in names
        }
        files.write_json(temporary / "MANIFEST.json", {"format": 1, "images": images, "files": manifest})
    others = [other for other in list_folders(root) if other != folder]
    whole = [other for other in others if verify(other, hashes=False) is None]
    for other in set(others) - set(whole[len(whole) - min(len(whole), keep - 1) :]):
        shutil.rmtree(other)
    return folder


def list_folders(root: Path) -> list[Path]:
    """Checkpoint folders by images seen, oldest first."""
    return sorted(path for path in root.glob("[0-9]*") if path.is_dir()) if root.is_dir() else []


def verify(folder: Path, *, hashes: bool = True) -> str | None:
    """Why this checkpoint cannot be used, or None when every file is what its manifest says (with `hashes=False`: has the size
    that it says)."""
    try:
        facts_by_name = files.read_json(folder / "MANIFEST.json")["files"]
    except FileNotFoundError:
        return "it has no MANIFEST.json"
    except (ValueError, KeyError, TypeError):
        return "its MANIFEST.json cannot be read"
    for name, facts in facts_by_name.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != facts["bytes"] or (hashes and files.sha256_file(path) != facts["sha256"]):
            return f"{name} is not the file that was written"
    return None


def newest(root: Path) -> Path | None:
    """The newest checkpoint that verifies; broken ones are named in the log and passed over, and what a killed
    save left is put right."""
    files.sweep(root)
    for folder in reversed(list_folders(root)):
        problem = verify(folder)
        if problem is None:
            return folder
        log.warning("checkpoint %s is not used: %s", folder, problem)
    return None


def load(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """`(tensors by group, state)` of a checkpoint. Raises DataError when it does not verify."""
    problem = verify(folder)
    if problem:
        raise DataError(
            f"this checkpoint is broken: {problem}", where=str(folder), do="resume from an older one, or start anew"
        )
    tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return tensors, files.read_json(folder / "state.json")


def flatten_optimizer(optimizer: torch.optim.Optimizer, names: Mapping[Parameter, str]) -> dict[str, Tensor]:
    """Optimizer state as `parameter name/state name -> tensor`, so that another grouping of parameters can still load it."""
    flat = {}
    for parameter, name in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            flat[f"{name}/{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return flat


def unflatten_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Parameter, str], flat: Mapping[str, Tensor]
) -> None:
    """Inverse of `flatten_optimizer`, into an optimizer built over the same named parameters."""
    by_name = {name: parameter for parameter, name in names.items()}
    for key, value in flat.items():
        name, field = key.rsplit("/", 1)
        if name not in by_name:
            raise DataError(f"the checkpoint's optimizer knows a parameter '{name}' that this learner lacks")
        parameter = by_name[name]
        # AdamW's step counter stays on the CPU unless it is fused or capturable; the moments live with their parameter.
        optimizer.state[parameter][field] = (
            value.to(parameter.device) if value.ndim or parameter.is_cuda else value.clone()
        )
