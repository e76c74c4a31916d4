"""The straight path and its inverses."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from animeflow.flow import path


@settings(max_examples=25, deadline=None)
@given(t=st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), seed=st.integers(0, 2**31))
def test_true_velocity_gives_data_back(t, seed):
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 3, 4, 5, 6, generator=generator)
    t_B = torch.tensor(t)
    x_t, v = path.interpolate(x0, noise, t_B), path.velocity(x0, noise)
    torch.testing.assert_close(path.denoised(x_t, v, t_B), x0, atol=3e-6, rtol=0)


def test_ends_are_exact():
    x0, noise = torch.randn(2, 2, 4, 5, 6)
    assert torch.equal(path.interpolate(x0, noise, torch.zeros(2)), x0)
    assert torch.equal(path.interpolate(x0, noise, torch.ones(2)), noise)


def test_bf16_latents_and_autocast_leave_the_path_in_float32():
    x0, noise = torch.randn(2, 4, 5, 6).bfloat16(), torch.randn(2, 4, 5, 6)
    t_B = torch.tensor([0.9811, 0.5043])  # both move when rounded to bf16
    with torch.autocast("cpu", torch.bfloat16):
        x_t = path.interpolate(x0, noise, t_B)
    t = t_B.reshape(2, 1, 1, 1)
    assert x_t.dtype == torch.float32
    assert torch.equal(x_t, (1 - t) * x0.float() + t * noise)
