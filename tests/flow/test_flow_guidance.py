"""Guidance: what is asked of the backbone and how the answers are mixed."""

from __future__ import annotations

import pytest
import torch

from animeflow.core.conditioning import Conditioning
from animeflow.core.errors import ConfigError
from animeflow.flow.guidance import guided


class Counted:
    """A backbone whose answer depends on every input, and which remembers the batch sizes it saw."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, x, t_B, cond):
        self.sizes.append(len(x))
        words = cond["words"].mean((1, 2)).reshape(-1, 1, 1, 1)
        return torch.tanh(x * words) + t_B.reshape(-1, 1, 1, 1)


def parts(tokens: int = 5):
    generator = torch.Generator().manual_seed(3)
    cond = Conditioning({"words": torch.randn(3, 5, 8, generator=generator)})
    uncond = Conditioning({"words": torch.randn(3, tokens, 8, generator=generator)})
    return cond, uncond, torch.randn(3, 4, 6, 6, generator=generator), torch.tensor([0.9, 0.5, 0.1])


def test_without_guidance_only_the_prompt_is_evaluated():
    cond, uncond, x, t_B = parts()
    net = Counted()
    v = guided(net, cond, uncond, 1.0)(x, t_B)
    assert net.sizes == [3]
    assert torch.equal(v, Counted()(x, t_B, cond))
    assert torch.equal(guided(net, cond, None, 1.0)(x, t_B), v)


def test_doubled_batch_equals_two_passes_and_the_formula():
    cond, uncond, x, t_B = parts()
    one, two = Counted(), Counted()
    joined = guided(one, cond, uncond, 4.5)(x, t_B)
    apart = guided(two, cond, uncond, 4.5, joined=False)(x, t_B)
    v_c, v_u = Counted()(x, t_B, cond), Counted()(x, t_B, uncond)
    assert one.sizes == [6]
    assert two.sizes == [3, 3]
    assert torch.equal(joined, apart)
    torch.testing.assert_close(joined, v_u + 4.5 * (v_c - v_u))


def test_prompts_of_other_lengths_are_evaluated_apart():
    cond, uncond, x, t_B = parts(tokens=7)
    net = Counted()
    guided(net, cond, uncond, 2.0)(x, t_B)
    assert net.sizes == [3, 3]


def test_guidance_without_a_negative_is_an_error():
    with pytest.raises(ConfigError, match="negative"):
        guided(Counted(), parts()[0], None, 4.5)
