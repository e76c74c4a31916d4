"""Classifier-free guidance: two velocities made one. Knows Conditioning as a bag; knows no key of it, no family and no solver.

v = v_uncond + cfg (v_cond - v_uncond), which in rectified flow is the same formula in x0, noise and velocity.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.conditioning import Conditioning
from ..core.errors import ConfigError
from .solution import VelocityField

Backbone = Callable[[Tensor, Tensor, Conditioning], Tensor]


def guided(
    backbone: Backbone, cond: Conditioning, uncond: Conditioning | None, cfg: float, *, joined: bool = True
) -> VelocityField:
    """The velocity of `backbone` under guidance.

    Args:
        uncond: conditioning of the negative prompt; not needed and not evaluated when `cfg` is 1.
        joined: one forward of the doubled batch. False, or tensors of other sizes in the two bags, gives two passes: the
            same numbers in half the memory.

    Raises ConfigError when cfg is not 1 and there is no `uncond`.
    """
    if cfg == 1:
        return lambda x, t_B: backbone(x, t_B, cond)
    if uncond is None:
        raise ConfigError(
            f"cfg {cfg} needs a negative prompt", where="sample.cfg", do="give one ('' will do), or cfg=1"
        )
    negative = uncond
    if not (joined and _sizes(cond) == _sizes(negative)):
        return lambda x, t_B: _mixed(backbone(x, t_B, cond), backbone(x, t_B, negative), cfg)
    both = Conditioning.cat([cond, negative])

    def doubled(x: Tensor, t_B: Tensor) -> Tensor:
        v_cond, v_uncond = backbone(torch.cat([x, x]), torch.cat([t_B, t_B]), both).chunk(2)
        return _mixed(v_cond, v_uncond, cfg)

    return doubled


def _mixed(v_cond: Tensor, v_uncond: Tensor, cfg: float) -> Tensor:
    v_cond, v_uncond = v_cond.float(), v_uncond.float()  # bf16 would lose the small difference that cfg multiplies
    return v_uncond + cfg * (v_cond - v_uncond)


def _sizes(cond: Conditioning) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in cond.items()}
