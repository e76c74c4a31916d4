"""Tokens that pass by come out as they went in, those that stay are worked on with their own positions, and the draw is fair."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from animeflow.core import seed as keyed
from animeflow.core.errors import ConfigError
from animeflow.model.routing import Route, route_tokens, routed, rows_of, scores

TOKENS, WIDTH = 10, 4
HALF = Route(0.5)


class Attention(nn.Module):
    """One head of attention with rotated queries and keys over picture and text: nearly what a block is."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x_BLD: Tensor, text_BTD: Tensor, angle_BLE: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BLD).chunk(3, dim=-1)
        _, text_k, text_v = self.qkv(text_BTD).chunk(3, dim=-1)
        q, k = rotated(q, angle_BLE), torch.cat([rotated(k, angle_BLE), text_k], 1)
        return x_BLD + torch.softmax(q @ k.mT, -1) @ torch.cat([v, text_v], 1)


def rotated(x: Tensor, angle: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def noisy(count: int, *, channels: int = 4, side: int = 8) -> tuple[Tensor, Tensor]:
    """Latents and t of so many pictures."""
    return keyed.normal((count, channels, side, side), "noisy"), torch.linspace(0.01, 0.99, count)


@pytest.fixture
def parts() -> tuple[Attention, Tensor, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        angles = torch.arange(TOKENS)[:, None] * torch.tensor([1.0, 0.1])
        return Attention(), torch.randn(3, TOKENS, WIDTH), torch.randn(3, 2, WIDTH), angles


def test_when_all_stay_nothing_changes(parts) -> None:
    block, x, text, angles = parts
    all_BK = Route(0.0).staying(*noisy(3), tokens=TOKENS)
    found = routed(x, all_BK, lambda kept: block(kept, text, rows_of(angles, all_BK)))
    torch.testing.assert_close(found, block(x, text, angles[None]))


def test_each_picture_is_worked_on_as_if_only_its_staying_tokens_were_there(parts) -> None:
    """Picture by picture, by hand: the tokens with their own angles and all of the text; the others untouched."""
    block, x, text, angles = parts
    staying_BK = HALF.staying(*noisy(3), tokens=TOKENS)
    found = routed(x, staying_BK, lambda kept: block(kept, text, rows_of(angles, staying_BK)))
    for i, rows in enumerate(staying_BK.tolist()):
        others = sorted(set(range(TOKENS)) - set(rows))
        torch.testing.assert_close(found[i, rows], block(x[i : i + 1, rows], text[i : i + 1], angles[rows][None])[0])
        assert torch.equal(found[i, others], x[i, others])
        assert not torch.allclose(found[i, rows], x[i, rows])
    without = routed(x, staying_BK, lambda kept: block(kept, text, angles[: staying_BK.shape[1]].expand(3, -1, -1)))
    assert not torch.allclose(found, without), "positions have to stay with their tokens"


def test_gradients_of_passing_tokens_are_those_of_the_identity(parts) -> None:
    block, x, text, angles = parts
    x.requires_grad_()
    staying_BK = HALF.staying(*noisy(3), tokens=TOKENS)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found = routed(x, staying_BK, lambda kept: block(kept, text, rows_of(angles, staying_BK)))
    (found * weights).sum().backward()
    for i, rows in enumerate(staying_BK.tolist()):
        others = sorted(set(range(TOKENS)) - set(rows))
        assert torch.equal(x.grad[i, others], weights[i, others])
        assert not torch.allclose(x.grad[i, rows], weights[i, rows])


def test_what_blocks_add_in_a_finer_dtype_is_not_rounded() -> None:
    x = torch.ones(1, 4, 2, dtype=torch.bfloat16)
    found = routed(x, torch.tensor([[1, 3]]), lambda kept: kept.float() + 2**-12)
    assert found.dtype == torch.float32
    assert found[0, :, 0].tolist() == [1, 1 + 2**-12, 1, 1 + 2**-12]


def test_the_numbers_are_splitmix64_of_the_bits_by_plain_integers() -> None:
    """The same by Python's integers, which do not overflow: a number that left 64 bits would show."""
    word = (1 << 64) - 1

    def mixed(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
        return z ^ (z >> 31)

    x, t = noisy(3, channels=2, side=4)
    for i, row in enumerate(scores(x, t, tokens=5).tolist()):
        bits = [*x[i].flatten().view(torch.int32).tolist(), t[i : i + 1].view(torch.int32).item()]
        golden = 0x9E3779B97F4A7C15
        start = mixed(sum(b * (2 * j + 1) * golden for j, b in enumerate(bits)) & word)
        assert [s & word for s in row] == [mixed((start + (k + 1) * golden) & word) for k in range(5)]


def test_who_stays_depends_on_the_picture_its_noise_and_t_and_on_no_other_picture() -> None:
    x, t = noisy(3)
    together = HALF.staying(x, t, tokens=64)
    for i in range(3):
        assert torch.equal(together[i], HALF.staying(x[i : i + 1], t[i : i + 1], tokens=64)[0])
    assert torch.equal(together.flip(0), HALF.staying(x.flip(0), t.flip(0), tokens=64))
    one_bit = x.clone()
    one_bit[0, 1, 2, 3] = torch.nextafter(one_bit[0, 1, 2, 3], torch.tensor(9.0))
    swapped = x[:, [1, 0, 2, 3]]
    draws = [
        *together,
        *(HALF.staying(*v, tokens=64)[0] for v in ((one_bit, t), (x, t.nextafter(t + 1)), (swapped, t))),
    ]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws)
    shared = [len(set(together[0].tolist()) & set(draw.tolist())) for draw in draws[3:]]
    assert all(8 < number < 24 for number in shared), "one bit elsewhere is another draw: 16 of 32 in the mean"


@pytest.mark.parametrize(
    ("tokens", "share", "count"), [(64, 0.5, 32), (9, 0.5, 5), (64, 0.25, 48), (7, 0.0, 7), (100, 0.29, 71)]
)
def test_every_token_stays_equally_often_in_its_order(tokens: int, share: float, count: int) -> None:
    drawn = Route(share).staying(*noisy(2000, channels=1), tokens=tokens)
    assert drawn.shape == (2000, count)
    assert (drawn.diff(dim=1) > 0).all(), "in order and none twice"
    often = torch.bincount(drawn.flatten(), minlength=tokens) / 2000
    assert (often - count / tokens).abs().max() < 0.06  # more than five standard deviations


def test_neighbours_stay_as_often_together_as_any_two() -> None:
    kept = torch.zeros(4000, 64).scatter(1, HALF.staying(*noisy(4000, channels=1), tokens=64), 1.0)
    correlation = torch.corrcoef(kept.T)
    expected = -1 / 63  # exactly half stay, so one that does leaves less room for another
    off = correlation[~torch.eye(64, dtype=torch.bool)]
    assert (off - expected).abs().max() < 5.5 / 4000**0.5
    assert off.mean().item() == pytest.approx(expected, abs=1e-3)


def test_whether_a_token_stays_says_nothing_about_what_it_holds() -> None:
    """Nor about t: of noisy latents with structure, bright in the middle."""
    x, t = noisy(4000, channels=1)
    x = x + 3 * torch.hann_window(8)[:, None] * torch.hann_window(8)
    kept = torch.zeros(4000, 64).scatter(1, HALF.staying(x, t, tokens=64), 1.0)
    values = x.flatten(1)
    for about in (values, values.abs(), values.square(), values * t[:, None]):
        about = about - about.mean(0)
        assert torch.corrcoef(torch.stack([kept.flatten(), about.flatten()]))[0, 1].abs() < 5 / (4000 * 64) ** 0.5
    first_half = kept[:, :32].sum(1)
    assert torch.corrcoef(torch.stack([first_half, t]))[0, 1].abs() < 5 / 4000**0.5


def test_flat_pictures_without_noise_are_drawn_fairly_too() -> None:
    """Where all tokens are equal the first ones would win a tie."""
    flat, t = torch.zeros(500, 4, 8, 8), torch.linspace(0, 1, 500)
    often = torch.bincount(HALF.staying(flat, t, tokens=64).flatten(), minlength=64) / 500
    assert (often - 0.5).abs().max() < 0.12


def test_the_draw_asks_for_no_gradient_and_reads_nothing_back() -> None:
    x, t = noisy(2)
    assert not HALF.staying(x.requires_grad_(), t, tokens=64).requires_grad
    assert HALF.staying(x.detach().to("meta"), t.to("meta"), tokens=64).shape == (2, 32)  # reading is an error there


def test_the_blocks_between() -> None:
    assert list(Route(0.5).blocks(24)) == list(range(2, 21))
    assert list(Route(0.5, first=1, last=-2).blocks(3)) == [1]
    assert list(Route(0.5, first=0, last=-1).blocks(3)) == [0, 1, 2]
    assert list(Route(0.5, first=1, last=2).blocks(4)) == [1, 2]
    for route in (Route(0.5), Route(0.5, first=0, last=5), Route(0.5, first=-9)):
        with pytest.raises(ConfigError, match="of 5 there is none to pass by"):
            route.blocks(5)


def test_one_token_always_stays() -> None:
    assert [Route(0.99).num_staying(tokens) for tokens in (1, 2, 10, 400)] == [1, 1, 1, 4]


def test_a_model_that_does_not_route_says_so_when_it_is_asked_to() -> None:
    route_tokens(nn.Linear(1, 1), None)
    with pytest.raises(ConfigError, match="does not let tokens pass"):
        route_tokens(nn.Linear(1, 1), Route(0.5))
