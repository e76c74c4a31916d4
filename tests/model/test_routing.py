"""Tokens that pass by come out as they went in, those that stay are worked on with their own positions, and who stays is keyed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from animeflow.core.errors import ConfigError
from animeflow.model.routing import inner_blocks, routed, rows_of, staying

IMAGES = [(11, 0), (12, 0), (13, 4)]
TOKENS, WIDTH = 10, 4


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


@pytest.fixture
def parts() -> tuple[Attention, Tensor, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        angles = torch.arange(TOKENS)[:, None] * torch.tensor([1.0, 0.1])
        return Attention(), torch.randn(3, TOKENS, WIDTH), torch.randn(3, 2, WIDTH), angles


def test_when_all_stay_nothing_changes(parts) -> None:
    block, x, text, angles = parts
    all_BK = staying(TOKENS, IMAGES, share=0.0, seed=0)
    found = routed(x, all_BK, lambda kept: block(kept, text, rows_of(angles, all_BK)))
    torch.testing.assert_close(found, block(x, text, angles[None]))


def test_each_picture_is_worked_on_as_if_only_its_staying_tokens_were_there(parts) -> None:
    """Picture by picture, by hand: the tokens with their own angles and all of the text; the others untouched."""
    block, x, text, angles = parts
    staying_BK = staying(TOKENS, IMAGES, share=0.5, seed=0)
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
    staying_BK = staying(TOKENS, IMAGES, share=0.5, seed=0)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found = routed(x, staying_BK, lambda kept: block(kept, text, rows_of(angles, staying_BK)))
    (found * weights).sum().backward()
    for i, rows in enumerate(staying_BK.tolist()):
        others = sorted(set(range(TOKENS)) - set(rows))
        assert torch.equal(x.grad[i, others], weights[i, others])
        assert not torch.allclose(x.grad[i, rows], weights[i, rows])


def test_who_stays_depends_on_seed_image_and_visit_and_on_no_other_image() -> None:
    together = staying(64, IMAGES, share=0.5, seed=3)
    for i, image in enumerate(IMAGES):
        assert torch.equal(together[i], staying(64, [image], share=0.5, seed=3)[0])
    draws = [*together, staying(64, [(11, 1)], share=0.5, seed=3)[0], staying(64, IMAGES, share=0.5, seed=4)[0]]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws)


@pytest.mark.parametrize(("tokens", "share", "count"), [(64, 0.5, 32), (9, 0.5, 5), (64, 0.25, 48), (7, 0.0, 7)])
def test_every_token_stays_equally_often_in_its_order(tokens: int, share: float, count: int) -> None:
    drawn = staying(tokens, [(uid, 0) for uid in range(2000)], share=share, seed=0)
    assert drawn.shape == (2000, count)
    assert (drawn.diff(dim=1) > 0).all(), "in order and none twice"
    often = torch.bincount(drawn.flatten(), minlength=tokens) / 2000
    assert (often - count / tokens).abs().max() < 0.06


def test_the_blocks_between() -> None:
    assert list(range(24))[inner_blocks(24)] == list(range(2, 20))
    assert list(range(4))[inner_blocks(4, first=1, last=1)] == [1, 2]
    with pytest.raises(ConfigError, match="first 2 and the last 4 of 6 blocks there is none"):
        inner_blocks(6)
