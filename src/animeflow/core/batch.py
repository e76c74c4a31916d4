"""Latents and conditioning of one bucket, and the identity of every image in it. Knows tensors; knows no disk."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    latents: Tensor
    conditioning: Conditioning
    uids: tuple[int, ...]
    visits: tuple[int, ...]
    global_count: int

    def __len__(self) -> int:
        return self.latents.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            self.latents.to(device, non_blocking=True),
            self.conditioning.to(device),
            self.uids,
            self.visits,
            self.global_count,
        )
