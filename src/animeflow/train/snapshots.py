"""Averages kept now and then over a run, out of which `animeflow ema` makes any other width. Knows averages and folders; knows
neither loop nor family.

A folder `snapshots/<images>/` is written like a checkpoint, so it is whole or absent and bears the hashes of its files.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core import files
from ..core.errors import DataError
from ..optim.posthoc import Profile
from ..optim.power_ema import PowerEMA, group_name
from . import checkpoint
from .checkpoint import Checkpoints, SaveFailed
from .peers import Peers
from .settings import Averages

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Snapshots:
    """The snapshots of one run, below `root`: `averages.snapshots` of them at equal distances in images, the end included. Build
    it, and call every method, on all processes alike.

    Args:
        averages: how many, and with how many bits.
        total_images: length of the run.
        peers: the processes that write together; those of torch.distributed unless given.
    """

    def __init__(self, root: Path, averages: Averages, *, total_images: int, peers: Peers | None = None) -> None:
        self.root, self.count, self.total_images = root, averages.snapshots, total_images
        self.dtype = averages.snapshot_dtype
        self._peers = peers or Peers()
        self._checkpoints = Checkpoints(root, keep_last=None, peers=self._peers)
        self._seen: int | None = None  # images when it was last asked

    def keep(self, images_seen: int, ema: PowerEMA) -> Path | None:
        """Keep the averages if it is time: call it after every step, before the checkpoint of that step, so that no run goes on
        from behind a snapshot that is missing. One that is there already and whole is not written again: a run that was resumed
        from before it makes the same. When the disk refuses, it is logged, and the run goes on without this one."""
        seen, self._seen = self._seen, images_seen
        if not self._due(seen, images_seen):
            return None
        facts = {
            "kind": "snapshot",
            "images_seen": images_seen,
            "sigma_rels": list(ema.sigma_rels),
            "dtype": self.dtype,
        }
        folder = self.root / f"{images_seen:012d}"
        if self._leader(lambda: _is_whole(folder, facts)):
            return folder
        dtype = DTYPES[self.dtype]
        tensors = {
            group: {name: average.to(dtype) for name, average in averages.items()}
            for group, averages in ema.state_dict().items()
        }
        try:
            return self._checkpoints.save(images_seen, tensors, facts)
        except SaveFailed as error:
            log.warning("the snapshot at %d images is left out: %s", images_seen, error)
            return None

    def _due(self, seen: int | None, now: int) -> bool:
        """Whether one of the `count` places in the run was passed since `seen`. A process that has just begun to ask looks for a
        snapshot at or after the last place instead: so a resumed run keeps those that an uninterrupted one does."""
        place = now * self.count // self.total_images
        if place == 0:
            return False
        if seen is not None:
            return place > seen * self.count // self.total_images
        first = -(-place * self.total_images // self.count)  # the fewest images at that place

        def look() -> bool:
            files.sweep(self.root)
            return not any(first <= int(folder.name) < now for folder in checkpoint.list_folders(self.root))

        return bool(self._leader(look))

    def rewind(self, images: int) -> None:
        """Delete what was kept after `images`: the run takes another way from there. -1 deletes all."""

        def delete() -> None:
            files.sweep(self.root)
            for folder in checkpoint.list_folders(self.root):
                if int(folder.name) > images:
                    log.info("snapshot %s is of a way that the run did not take in the end; it is deleted", folder)
                    shutil.rmtree(folder)

        self._leader(delete)
        self._seen = max(images, 0)

    def close(self) -> None:
        """Leave the group of processes. Nothing can be kept after."""
        self._checkpoints.close()

    def _leader(self, step: Any) -> Any:
        """What process 0 says, on all of them."""
        return self._peers.together(lambda: step() if self._peers.rank == 0 else None)[0]


@dataclass(frozen=True)
class Kept:
    """One average on disk: a group of the snapshot in `folder`."""

    folder: Path
    profile: Profile

    def load(self) -> dict[str, Tensor]:
        """Its tensors, as they were rounded. Raises DataError when the snapshot is broken."""
        group = group_name(self.profile.sigma_rel)
        return checkpoint.load(self.folder, [group])[0][group]


def kept(root: Path) -> list[Kept]:
    """All averages of the snapshots below `root` that look whole, oldest first; broken ones are named in the log and passed over.

    Raises:
        DataError: there is none."""
    files.sweep(root)
    found: list[Kept] = []
    for folder in checkpoint.list_folders(root):
        problem = checkpoint.verify(folder, hashes=False)
        if problem is not None:
            log.warning("snapshot %s is not used: %s", folder, problem)
            continue
        widths = checkpoint.load_state(folder)["sigma_rels"]
        found += [Kept(folder, Profile(int(folder.name), width)) for width in widths]
    if not found:
        raise DataError(
            "this run kept no snapshots of its averages",
            where=str(root),
            why="other widths are made out of them, and the last checkpoint alone is not enough",
            do="train with train.ema.snapshots=16, or export one of the averages in the checkpoint as it is",
        )
    return found


def _is_whole(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Whether the snapshot there is what would be written now."""
    return folder.is_dir() and checkpoint.verify(folder) is None and checkpoint.load_state(folder) == facts
