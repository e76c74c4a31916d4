"""Groups of named tensors as safetensors files, one per group and process. Knows torch's distributed checkpoints; knows no run.

    snapshot = Staging().take(groups, rank=..., world=...)     # a copy in host memory of what this process writes
    write(folder, snapshot)                                    # on every process, into one folder
    read_into(folder, groups)                                  # fills tensors in place, sharded in whatever way
    read(folder)                                               # plain whole tensors, on one process

Neither writing nor reading talks to another process, and nothing is pickled, on disk or on the wire: DCP's own planning gathers
pickled plans, so each process plans for itself (`staging` says who writes what).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint import (
    CheckpointException,
    DefaultLoadPlanner,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from ..core import files
from ..core.errors import DataError
from .staging import Groups, Snapshot, flat_names

# We tell DCP to ask nobody, and it says so at every save and load.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


class _Planner(SavePlanner):
    """Writes the pieces of a snapshot, whatever the others write."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:
        """The snapshot says all."""

    def create_local_plan(self) -> SavePlan:
        return SavePlan(self._snapshot.items)

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        return all_plans, Metadata(state_dict_metadata={})

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        return new_plan

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        return self._snapshot.data[write_item.index.fqn]


class _Writer(HuggingFaceStorageWriter):
    """Writes the format of its parent straight from the tensors' memory, one file per group. The parent builds every file in
    memory, twice, and holds up all of Python meanwhile: a loop beside it stood still for 0.7 s per 400 MB."""

    def __init__(self, folder: Path, snapshot: Snapshot) -> None:
        super().__init__(str(folder), save_distributed=True)
        self._folder, self._snapshot = folder, snapshot
        self.written: list[Path] = []

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        some = "" if self._snapshot.world == 1 else f"-{self._snapshot.rank + 1:05d}-of-{self._snapshot.world:05d}"
        for group, items in itertools.groupby(plan.items, lambda item: item.index.fqn.partition("/")[0]):
            path = self._folder / f"{group}{some}.safetensors"
            _write_file(path, {item.index.fqn: item for item in items}, self._snapshot.data)
            self.written.append(path)
        done: Future[list[WriteResult]] = Future()
        done.set_result([])
        return done


def _write_file(path: Path, items: dict[str, WriteItem], data: dict[str, Tensor]) -> None:
    places = {name: {"saved_offsets": list(item.index.offset or [])} for name, item in items.items()}
    header = {"DCP_SHARDING_INFO": json.dumps(places), "DCP_VERSION": "1.0", "format": "pt"}
    try:
        save_file({name: data[name] for name in items}, path, metadata=header)
    except SafetensorError as error:
        raise OSError(f"{path.name}: {error}") from error
    path.chmod(0o644)  # the library writes files that only their owner reads
    files.sync(path)


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """What went wrong, in place of DCP's wrapping, which is no Exception and would pass every `except Exception`."""
    try:
        yield
    except CheckpointException as wrapped:
        error, _ = next(iter(wrapped.failures.values()))
        raise error from None


def write(folder: Path, snapshot: Snapshot) -> list[Path]:
    """Write this process's pieces and flush them to disk; returns its files."""
    writer = _Writer(folder, snapshot)
    with _own_errors():
        dcp.save({}, storage_writer=writer, planner=_Planner(snapshot), no_dist=True)
    return writer.written


def require_whole(folder: Path, snapshot: Snapshot) -> None:
    """Raises DataError when the files of all processes do not make up the tensors that the snapshot was taken of."""
    there = {name: facts.size for name, facts in _stored(folder).items()}
    if there != snapshot.shapes:
        wrong = sorted(name for name in {*there, *snapshot.shapes} if there.get(name) != snapshot.shapes.get(name))
        raise DataError(f"{len(wrong)} tensors are not whole on disk, '{wrong[0]}' first", where=str(folder))


def _stored(folder: Path) -> dict[str, TensorStorageMetadata]:
    """What the headers of the files say of every tensor, by full name. Raises DataError where a part of one is missing."""
    stored: dict[str, Any] = dict(HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata)
    for name, facts in stored.items():
        if sum(math.prod(chunk.sizes) for chunk in facts.chunks) != math.prod(facts.size):
            raise DataError(f"the parts of tensor '{name}' do not make up a whole", where=str(folder))
    return stored


def describe(folder: Path) -> dict[str, dict[str, tuple[torch.dtype, torch.Size]]]:
    """Type and shape of every tensor that lies in the folder, by group and name."""
    found: dict[str, dict[str, tuple[torch.dtype, torch.Size]]] = {}
    for full, facts in sorted(_stored(folder).items()):
        group, _, name = full.partition("/")
        found.setdefault(group, {})[name] = (facts.properties.dtype, facts.size)
    return found


def read_into(folder: Path, groups: Groups) -> None:
    """Fill the tensors in place, each process its parts. Groups that are not asked for stay on disk. Raises DataError when names,
    shapes or types of a group are not those that were written."""
    flat, stored = flat_names(groups), describe(folder)
    for group, values in groups.items():
        there, here = stored.get(group, {}), {name: (value.dtype, value.shape) for name, value in values.items()}
        if there != here:
            wrong = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
            raise DataError(
                f"{len(wrong)} tensors of '{group}' differ, '{wrong[0]}' first: {_say(there.get(wrong[0]))} there, "
                f"{_say(here.get(wrong[0]))} here",
                where=str(folder),
                do="resume with the settings that the run began with",
            )
    _load(folder, flat)


def read(folder: Path, groups: list[str] | None = None) -> dict[str, dict[str, Tensor]]:
    """Whole tensors on the CPU, by group and name; of the named groups only, if any are named."""
    asked = {group: facts for group, facts in describe(folder).items() if groups is None or group in groups}
    values = {
        group: {name: torch.empty(shape, dtype=dtype) for name, (dtype, shape) in facts.items()}
        for group, facts in asked.items()
    }
    _load(folder, flat_names(values))
    return values


def _load(folder: Path, flat: dict[str, Tensor]) -> None:
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)  # names may have dots
    with _own_errors(), torch.no_grad():
        dcp.load(dict(flat), storage_reader=HuggingFaceStorageReader(str(folder)), planner=planner, no_dist=True)


def _say(facts: tuple[torch.dtype, torch.Size] | None) -> str:
    return "none" if facts is None else f"{str(facts[0]).removeprefix('torch.')} {list(facts[1])}"
