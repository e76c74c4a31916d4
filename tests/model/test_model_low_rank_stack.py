"""Joining additions and taking them apart again: whatever the ranks, zeros and gaps, delta W is the same afterwards."""

from __future__ import annotations

import random

import pytest
import torch

from animeflow.core.seed import normal
from animeflow.learn.check import audit, compare
from animeflow.model import registry
from animeflow.model.low_rank import LowRank
from animeflow.model.low_rank_stack import stacked, unstacked

FUSED = "joint_blocks.0.x_block.attn.qkv"
STEMS = {"kohya": f"lora_unet_{FUSED.replace('.', '_')}", "comfyui": f"diffusion_model.{FUSED}"}
ENDS = {"kohya": ("lora_down.weight", "lora_up.weight"), "comfyui": ("lora_A.weight", "lora_B.weight")}


@pytest.mark.parametrize("rank", [1, 2, 4, 6, 16, 32])
@pytest.mark.parametrize("dialect", STEMS)
def test_a_joined_layer_that_learned_nothing_is_read_and_told(dialect, rank):
    """Any rank, also one that three parts cannot share evenly; no row of A is lost, and the check says what is the matter."""
    dialects = registry.constructor("sd35").dialects()
    down, (a, b) = normal((rank, 96), "down"), ENDS[dialect]
    tensors = {f"{STEMS[dialect]}.{a}": down, f"{STEMS[dialect]}.{b}": torch.zeros(288, rank),
               f"{STEMS[dialect]}.alpha": torch.tensor(float(rank))}  # fmt: skip
    state = dialects[dialect].read(tensors)
    assert torch.equal(torch.cat([part.down for part in state.values()]), down)
    assert {part.scale for part in state.values()} == {1.0}
    ranks = [part.rank for part in state.values()]
    assert max(ranks) - min(ranks) <= 1
    for other in dialects.values():
        assert compare(state, other.read(other.write(state))) == 0.0
    found = {finding.name: finding for finding in audit(state, dialects=dialects, dialect=dialect).findings}
    assert "every delta W is zero" in found["delta W"].what


def drawn(draw: random.Random, part: int) -> LowRank | None:
    """An addition to one of three parts, or none; some have columns of B that are zero, or nothing else."""
    if draw.random() < 0.3:
        return None
    rank = draw.randint(1, 9)
    down, up = (normal(shape, draw.random(), part) for shape in ((rank, 5), (4, rank)))
    up[:, [draw.random() < 0.4 for _ in range(rank)]] = 0.0
    return LowRank(down, up * (draw.random() < 0.7), alpha=draw.choice([0.5, 1.0, float(rank)]))


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_joined_comes_apart_to_the_same(seed):
    draw = random.Random(seed)
    parts = [drawn(draw, index) for index in range(3)]
    parts = parts if any(parts) else [LowRank(torch.ones(4, 5), torch.zeros(4, 4), 1.0), None, None]
    found = unstacked(stacked(parts, what="test"), 3, what="test")
    before, after = ({str(i): p for i, p in enumerate(each) if p is not None} for each in (parts, found))
    assert compare(before, after) < 1e-6
    again = unstacked(stacked(found, what="test"), 3, what="test")
    assert compare(after, {str(i): part for i, part in enumerate(again) if part is not None}) < 1e-6
