"""Latents and conditioning of one bucket, and the identity of every image in it. Knows tensors; knows no disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .conditioning import Conditioning


@dataclass(frozen=True)
class Batch:
    """One micro-batch: all of one bucket.

    Attributes:
        latents: `[B, C, h, w]`, normalised by the codec.
        conditioning: what the backbone sees besides them.
        uids: stable integer identity of every image (63 bits of its sha256), the key of all its random draws.
        visits: how often each image has been seen before this batch (0 on the first visit).
        global_count: images in the optimizer step this batch is a part of, over all processes and accumulation.
        step: number of that optimizer step in the order of data, from 0.
        places: place of every image among the `global_count` of its step, equal whatever the number of processes; empty where
            nothing asks for it.
        draws: what the recipe drew for these images ahead of the loop; empty until it did.
        masks: `[B, 1, h, w]` in [0, 1], how much of every latent cell counts; None where all of them do.
        prior: the same pictures' captions as the untrained model would read them (the class in place of the trigger), for a recipe
            that keeps what the model knew; None where nothing asks for it.
        weights: `[B]` float32, how much the loss of each image counts; None where all count alike.
        components: `[B]` int64, the part of the mixture that each image is of, by its number in `names`; None without a mixture.
        names: of the parts of the mixture.
    """

    latents: Tensor
    conditioning: Conditioning
    uids: tuple[int, ...]
    visits: tuple[int, ...]
    global_count: int
    step: int = 0
    places: tuple[int, ...] = ()
    draws: Mapping[str, Tensor] = field(default_factory=dict)
    masks: Tensor | None = None
    prior: Conditioning | None = None
    weights: Tensor | None = None
    components: Tensor | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.latents.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """Moved without waiting, where the memory is page-locked."""
        return replace(
            self,
            latents=self.latents.to(device, non_blocking=True),
            conditioning=self.conditioning.to(device),
            draws={name: tensor.to(device, non_blocking=True) for name, tensor in self.draws.items()},
            masks=None if self.masks is None else self.masks.to(device, non_blocking=True),
            prior=None if self.prior is None else self.prior.to(device),
            weights=None if self.weights is None else self.weights.to(device, non_blocking=True),
            components=None if self.components is None else self.components.to(device, non_blocking=True),
        )

    def pinned(self) -> Batch:
        """In page-locked memory, from which a GPU copies while it works."""
        return replace(
            self,
            latents=self.latents.pin_memory(),
            conditioning=_pinned(self.conditioning),
            draws={name: tensor.pin_memory() for name, tensor in self.draws.items()},
            masks=None if self.masks is None else self.masks.pin_memory(),
            prior=None if self.prior is None else _pinned(self.prior),
            weights=None if self.weights is None else self.weights.pin_memory(),
            components=None if self.components is None else self.components.pin_memory(),
        )


def _pinned(conditioning: Conditioning) -> Conditioning:
    return Conditioning({name: tensor.pin_memory() for name, tensor in conditioning.items()})
