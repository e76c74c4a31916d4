"""What torch counts while a network of full size computes without memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from animeflow.core.conditioning import Conditioning
from animeflow.model.protocol import Family

Sizes = Iterable[tuple[int, int]]  # height and width of pictures, in pixels


def counted(family: Family, build: Callable[[], nn.Module], sizes: Sizes, *, tokens: int) -> list[tuple[int, int]]:
    """FLOP of the forward pass and of both passes, for one picture of each size.

    `build` makes tensors without memory, as on the meta device; but they say they were on the CPU, which autocast knows.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        backbone = build()
        found = []
        for height, width in sizes:
            latents, text = family.random_inputs(1, height=height, width=width, tokens=tokens)
            text = Conditioning({name: fake.from_tensor(tensor) for name, tensor in text.items()})
            found.append(_counted(backbone, fake.from_tensor(latents), text))
    return found


def really_counted(family: Family, height: int, width: int, *, tokens: int) -> tuple[int, int]:
    """The same of the family's own backbone with its weights."""
    return _counted(family.backbone(), *family.random_inputs(1, height=height, width=width, tokens=tokens))


def _counted(backbone: nn.Module, latents: Tensor, text: Conditioning) -> tuple[int, int]:
    """Attention is the two plain products of the formula: torch counts a fused kernel's way back with a product more."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        velocity = backbone(latents, torch.zeros(1), text)
        forward = counter.get_total_flops()
        velocity.sum().backward()
    return forward, counter.get_total_flops()
