"""Checkpoints as they lie on disk: whole, verified, the newest first. Knows their folders and hashes; knows no run and no save.

A folder `checkpoints/<images>/` with the safetensors files of all processes, `state.json`, and `MANIFEST.json` with the size and
hash of each. The manifest bears its own hash, so that every byte of the folder is accounted for. Nothing here is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors.torch import load_file
from torch import Tensor

from ..core import files
from ..core.errors import DataError
from . import sharded

log = logging.getLogger(__name__)

MANIFEST, STATE = "MANIFEST.json", "state.json"


def list_folders(root: Path) -> list[Path]:
    """Checkpoint folders by images seen, oldest first."""
    return sorted(path for path in root.glob("[0-9]*") if path.name.isdecimal() and path.is_dir())


def facts_of(path: Path) -> dict[str, Any]:
    """Size and hash of a file. xxh3 finds every accident, reads faster than a disk, and guards against no forger."""
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "xxh3_128": hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()}


def seal(
    folder: Path, *, images: int, processes: int, groups: Mapping[str, int], written: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the manifest of a folder whose other files are all there.

    Args:
        groups: how many tensors each has, the empty ones too, of which no file tells.
        written: size and hash of every file.
    """
    said = {"format": 2, "images": images, "processes": processes, "torch": torch.__version__}
    body = {**said, "groups": dict(groups), "files": {name: dict(facts) for name, facts in written.items()}}
    files.write_text(folder / MANIFEST, _sealed(body))


def _sealed(body: Mapping[str, Any]) -> str:
    return json.dumps({**body, "seal": files.address(**body)}, indent=1, sort_keys=True) + "\n"


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest, if it is as it was written. Raises ValueError when it is not."""
    text = (folder / MANIFEST).read_text()
    body = json.loads(text)
    if not isinstance(body, dict) or not isinstance(body.get("files"), dict):
        raise ValueError("no manifest")
    if body.get("format") == 1:  # bore no hash of its own
        return body
    if text != _sealed({key: value for key, value in body.items() if key != "seal"}):
        raise ValueError("not the manifest that was written")
    return body


def verify(folder: Path, *, hashes: bool = True) -> str | None:
    """Why this checkpoint cannot be used, or None when every file is what its manifest says (with `hashes=False`: has the size
    that it says)."""
    name = MANIFEST
    try:
        facts_by_name = _manifest(folder)["files"]
        for name, facts in facts_by_name.items():
            if Path(name).name != name or not (folder / name).is_file():
                return f"{name} is missing"
            if (folder / name).stat().st_size != facts["bytes"] or (hashes and not _same(folder / name, facts)):
                return f"{name} is not the file that was written"
    except (FileNotFoundError, NotADirectoryError):
        return f"it has no {name}"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError):
        return f"its {MANIFEST} is not the one that was written"
    # A reader takes every safetensors file that lies there.
    strange = {path.name for path in folder.glob("*.safetensors")} - set(facts_by_name)
    return f"{min(strange)} is not of it" if strange else None


def _same(path: Path, facts: Mapping[str, Any]) -> bool:
    if "sha256" in facts:
        return files.sha256_file(path) == facts["sha256"]
    return facts_of(path) == facts


def newest(root: Path, *, before: int | None = None) -> Path | None:
    """The newest checkpoint that verifies (with `before`: of fewer images); broken ones are named in the log and passed over,
    and what a killed save left is put right."""
    files.sweep(root)
    for folder in reversed(list_folders(root)):
        if before is not None and int(folder.name) >= before:
            continue
        problem = verify(folder)
        if problem is None:
            return folder
        log.warning("checkpoint %s is not used: %s", folder, problem)
    return None


def load(folder: Path, groups: Sequence[str] | None = None) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """`(tensors by group, state)` of a checkpoint: whole tensors on the CPU, however many processes wrote it. Raises DataError when
    it does not verify.

    Args:
        groups: only these of them.
    """
    problem = verify(folder)
    if problem:
        raise DataError(
            f"this checkpoint is broken: {problem}", where=str(folder), do="resume from an older one, or start anew"
        )
    manifest = _manifest(folder)
    if manifest["format"] == 1:  # one plain file per group
        paths = [path for path in sorted(folder.glob("*.safetensors")) if groups is None or path.stem in groups]
        return {path.stem: load_file(path) for path in paths}, load_state(folder)
    empty: dict[str, dict[str, Tensor]] = {name: {} for name in manifest["groups"] if groups is None or name in groups}
    return empty | sharded.read(folder, list(empty)), load_state(folder)


def load_state(folder: Path) -> dict[str, Any]:
    """What a checkpoint says besides its tensors."""
    state: dict[str, Any] = files.read_json(folder / STATE)
    return state


def retire(root: Path, *, just_written: Path, keep_last: int | None, keep_every_images: int = 0) -> None:
    """Delete old checkpoints. What stays: the one just written; with it the newest, `keep_last` of them together (None: all); and
    for good the first one at or after every multiple of `keep_every_images`. Only those that look whole are counted (their files
    are there and of the right size: hashing them all again would take longer than the save)."""
    if keep_last is None:
        return
    others = [folder for folder in list_folders(root) if folder != just_written]
    whole = [folder for folder in others if verify(folder, hashes=False) is None]
    stay = {just_written, *whole[len(whole) - min(len(whole), keep_last - 1) :]}
    if keep_every_images > 0:
        firsts: dict[int, Path] = {}
        for folder in sorted({*whole, just_written}):
            firsts.setdefault(int(folder.name) // keep_every_images, folder)
        stay |= {folder for multiple, folder in firsts.items() if multiple > 0}
    for folder in others:
        if folder not in stay:
            _delete(folder)


def _delete(folder: Path) -> None:
    """Out of sight in one move, then gone; `files.sweep` goes on where a kill leaves off."""
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    os.replace(folder, hidden)
    shutil.rmtree(hidden, ignore_errors=True)
