"""What the backbone sees besides latents: a bag of named tensors. Knows batches; knows no encoder and no family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor


class Conditioning(Mapping[str, Tensor]):
    """Immutable bag of tensors whose first axis is the batch. Recipes pass it on and never read a key of it."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        sizes = {name: tensor.shape[0] for name, tensor in tensors.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"conditioning tensors disagree about the batch: {sizes}")
        self._tensors = dict(tensors)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditioning:
        """Moved to `device`; floating tensors cast to `dtype`, masks and ids keep theirs."""
        return Conditioning(
            {
                name: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None, non_blocking=True)
                for name, tensor in self._tensors.items()
            }
        )

    def rows(self, index: slice | Tensor | Sequence[int]) -> Conditioning:
        """The same bag for some rows of the batch."""
        return Conditioning({name: tensor[index] for name, tensor in self._tensors.items()})

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Joined along the batch; every part needs the same names and the same sizes on the other axes."""
        names = {tuple(part) for part in parts}
        if len(names) > 1:
            raise ValueError(f"conditionings hold different tensors: {sorted(names)}")
        return Conditioning({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
