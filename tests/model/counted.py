"""What torch counts while a network of full size computes without memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from animeflow.core.conditioning import Conditioning

Cells = tuple[int, int, int]  # channels, height, width of a picture's latents


def counted(build: Callable[[], nn.Module], sizes: Iterable[Cells], text: Conditioning) -> list[tuple[int, int]]:
    """FLOP of the forward pass and of both passes, for one picture of each size.

    `build` makes tensors without memory, as on the meta device; but they say they were on the CPU, which autocast knows.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        backbone = build()
        text = Conditioning({name: fake.from_tensor(tensor) for name, tensor in text.items()})
        return [really_counted(backbone, cells, text) for cells in sizes]


def really_counted(backbone: nn.Module, cells: Cells, text: Conditioning) -> tuple[int, int]:
    """The same with the tensors as they are.

    Attention is the two plain products of the formula: torch counts a fused kernel's way back with a product more.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        velocity = backbone(torch.zeros(1, *cells), torch.zeros(1), text)
        forward = counter.get_total_flops()
        velocity.sum().backward()
    return forward, counter.get_total_flops()
