"""A copy in host memory of what one process writes of a training state. Knows tensors, sharded or not; knows no file.

A tensor is a DTensor, of which every process holds a part, or a plain one that is the same on all processes. Each piece is
written once: where several processes hold the same, the one that has least to write so far takes it, which all of them can
work out without asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType
from torch.distributed.tensor import DTensor

from ..core import files

Groups = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Snapshot:
    """What one process writes of the groups, in host memory.

    Args:
        rank, world: of this process, and how many there are.
        items, data: the pieces in the order of their names, and their tensors by full name `group/name`.
        shapes: of the whole tensors, by full name; the same on all processes, as `digest` shows.
        groups: how many tensors each has.
        whole_bytes: of all processes together.
    """

    rank: int
    world: int
    items: list[WriteItem]
    data: dict[str, Tensor]
    shapes: dict[str, torch.Size]
    groups: dict[str, int]
    whole_bytes: int
    digest: str


@dataclass
class Staging:
    """Copies tensors into host memory that is used again by the next snapshot: only one of them can be in use."""

    _buffers: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def take(self, groups: Groups, *, rank: int = 0, world: int = 1) -> Snapshot:
        """A snapshot that later changes of the tensors do not reach. Raises ValueError on a tensor that is no part of a whole."""
        flat = flat_names(groups)
        turns: dict[int, _Turns] = {}
        items, data, cuda = [], {}, False
        for name, tensor in sorted(flat.items()):
            copies, mine = _copies(tensor, rank, world)
            turn = turns.setdefault(copies, _Turns(copies)).next(tensor.numel() * tensor.element_size())
            if mine != turn:
                continue
            local, item = _piece(name, tensor)
            if local.numel() == 0 and tensor.numel() > 0:
                continue  # more processes than rows: this one has none
            items.append(item)
            data[name] = self._copy(name, local)
            cuda |= local.is_cuda
        if cuda:
            torch.cuda.current_stream().synchronize()
        self._buffers = data
        return Snapshot(
            rank=rank,
            world=world,
            items=items,
            data=data,
            shapes={name: tensor.shape for name, tensor in flat.items()},
            groups={group: len(values) for group, values in groups.items()},
            whole_bytes=sum(tensor.numel() * tensor.element_size() for tensor in flat.values()),
            digest=files.address(tensors=[[n, list(t.shape), str(t.dtype)] for n, t in sorted(flat.items())]),
        )

    def _copy(self, name: str, local: Tensor) -> Tensor:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != local.shape or buffer.dtype != local.dtype:
            buffer = torch.empty(local.shape, dtype=local.dtype, pin_memory=local.is_cuda)
        return buffer.copy_(local, non_blocking=local.is_cuda)

    def clear(self) -> None:
        self._buffers = {}


class _Turns:
    """Who of several that hold the same tensors writes the next one: whoever has least to write."""

    def __init__(self, count: int) -> None:
        self._bytes = [0] * count

    def next(self, size: int) -> int:
        turn = self._bytes.index(min(self._bytes))
        self._bytes[turn] += size
        return turn


def flat_names(groups: Groups) -> dict[str, Tensor]:
    """The tensors by full name, `group/name`."""
    for group in groups:
        if not group or "/" in group:
            raise ValueError(f"'{group}' is no name of a group: a slash ends it")
    return {f"{group}/{name}": tensor for group, values in groups.items() for name, tensor in values.items()}


def _copies(tensor: Tensor, rank: int, world: int) -> tuple[int, int]:
    """On how many processes the same piece lies, and the number of ours among them (-1: we hold none)."""
    if not isinstance(tensor, DTensor):
        return world, rank
    mesh, coordinates = tensor.device_mesh, tensor.device_mesh.get_coordinate()
    copies, mine = 1, 0
    for dim, placement in enumerate(tensor.placements):
        if placement.is_partial():
            raise ValueError("a tensor that is still to be summed over processes cannot be saved")
        if placement.is_replicate():
            copies, mine = copies * mesh.size(dim), mine * mesh.size(dim) + (coordinates or [0] * mesh.ndim)[dim]
    return copies, -1 if coordinates is None else mine


def _piece(name: str, tensor: Tensor) -> tuple[Tensor, WriteItem]:
    """The part of a tensor that lies here, and where in the whole it lies."""
    if isinstance(tensor, DTensor):
        (item,) = tensor.__create_write_items__(name, tensor)  # by what DTensor offers to DCP's planners
        return tensor.to_local().detach(), item
    offsets = torch.Size([0] * tensor.ndim)
    data = TensorWriteData(
        chunk=ChunkStorageMetadata(offsets=offsets, sizes=tensor.shape),
        properties=TensorProperties(dtype=tensor.dtype),
        size=tensor.shape,
    )
    return tensor.detach(), WriteItem(MetadataIndex(name, offsets), WriteItemType.TENSOR, tensor_data=data)
