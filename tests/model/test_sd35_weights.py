"""Emphasis in SD3's text path: equal to the formula computed with transformers alone, and nothing at weight 1.

ComfyUI tokenizes the pieces one by one, puts them together without marks between them, and moves each token's state along the line
from the empty prompt's state at its place, in each encoder by itself.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from animeflow.model.sd35.t5_length import T5Length
from animeflow.model.sd35.text_tower import SD3TextTower
from animeflow.model.sd35.tiny import tiny_tower
from animeflow.text.emphasis import parse

WORDS = ["1girl", "blue", "red", "hair", "eyes", "chibi", "smile", "a", "and", "hat"]
POLICIES = [
    T5Length("diffusers", length=48, minimum=40, maximum=60),
    T5Length("comfy", length=48, minimum=40, maximum=60),
    T5Length("unpadded", length=48, minimum=40, maximum=60),
]
PROMPTS = [
    "(chibi:2), 1girl, blue hair",
    "1girl, (blue (hair):0.5), ((smile))",
    "(red eyes:-1) and (a hat:0)",
    "a (b",  # two pieces of weight 1
    "((blue hair:1.5), " * 40,  # longer than any limit
    "(" + "red, " * 50 + ":1.3)",  # longer than CLIP's, in one piece
    r"hatsune miku \(vocaloid\), (:1.2) ()",
]


@pytest.fixture(scope="module", params=POLICIES, ids=lambda policy: policy.policy)
def tower(request) -> SD3TextTower:
    return tiny_tower(WORDS, t5_length=request.param, row_dtype=torch.float32)


def formula(z_nD: Tensor, empty_nD: Tensor, weights: list[float]) -> Tensor:
    moved = z_nD.clone()
    for place, weight in enumerate(weights):
        moved[place] = empty_nD[place] + weight * (z_nD[place] - empty_nD[place])
    return moved


def joined(tokenizer, prompt: str, *, start: int) -> tuple[list[int], list[float]]:
    """Ids and weights of the pieces, cut out of what the tokenizer gives for each alone: `start` tokens before, one after."""
    ids, weights = [], []
    for text, weight in parse(prompt):
        piece = tokenizer(text)["input_ids"][start:-1]
        ids += piece
        weights += [weight] * len(piece)
    return ids, weights


@torch.no_grad()
def clip_by_hand(clip, prompt: str) -> tuple[Tensor, Tensor]:
    empty = clip.tokenizer("", padding="max_length", max_length=40)["input_ids"]
    ids, weights = joined(clip.tokenizer, prompt, start=1)
    ids, weights = ids[:38], weights[:38]
    ids = [empty[0], *ids, empty[1]]
    ids += empty[len(ids) :]
    z = clip.model(torch.tensor([ids]), output_hidden_states=True)
    z_empty = clip.model(torch.tensor([empty]), output_hidden_states=True).hidden_states[-2][0]
    return formula(z.hidden_states[-2][0], z_empty, [1.0, *weights]), z.text_embeds[0]


@torch.no_grad()
def t5_by_hand(t5, prompt: str, policy: str) -> Tensor:
    ids, weights = joined(t5.tokenizer, prompt, start=0)
    limit = 48 if policy == "diffusers" else 60
    ids, weights = [*ids[: limit - 1], 1], weights[: limit - 1]
    length = {"diffusers": 48, "comfy": max(40, len(ids)), "unpadded": len(ids)}[policy]
    z, z_empty = (
        t5.model(torch.tensor([[*row, *[0] * (length - len(row))]])).last_hidden_state[0] for row in (ids, [1])
    )
    return formula(z, z_empty, weights)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_rows_equal_the_formula(tower, prompt):
    row = tower.encode_weighted([parse(prompt)])[0]
    assert set(row) == {"clip_l", "clip_g", "pooled_l", "pooled_g", "t5"}
    for letter, clip in (("l", tower.clip_l), ("g", tower.clip_g)):
        states, pooled = clip_by_hand(clip, prompt)
        torch.testing.assert_close(row[f"clip_{letter}"], states, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(row[f"pooled_{letter}"], pooled, rtol=1e-5, atol=1e-5)
    expected = t5_by_hand(tower.t5, prompt, tower.t5_length.policy)
    torch.testing.assert_close(row["t5"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", ["", " ", "1girl, blue hair", "(blue:2)", "red " * 80, "初音ミク <|endoftext|>"])
def test_one_piece_of_weight_one_is_the_row_of_encode(tower, text):
    plain, weighted = tower.encode([text])[0], tower.encode_weighted([[(text, 1.0)]])[0]
    assert set(plain) == set(weighted)
    assert all(torch.equal(plain[name], weighted[name]) for name in plain)
    nearly = tower.encode_weighted([[(text, 1.0 + 1e-7)]])[0]  # the path of emphasis itself
    for name in plain:
        torch.testing.assert_close(nearly[name], plain[name], rtol=1e-5, atol=1e-5)


def test_no_piece_is_the_empty_prompt(tower):
    row, empty = tower.encode_weighted([[]])[0], tower.encode([""])[0]
    for name in empty:
        torch.testing.assert_close(row[name], empty[name], rtol=1e-5, atol=1e-5)


def test_weight_zero_leaves_the_empty_prompt_at_those_tokens_only(tower):
    pieces = [("1girl", 1.0), ("blue hair", 0.0), ("smile", 1.0)]
    row = tower.encode_weighted([pieces])[0]
    plain = tower.encode_weighted([[(text, 1.0) for text, _ in pieces]])[0]
    for name, first in (("clip_l", 1), ("clip_g", 1), ("t5", 0)):
        ours, whole = row[name], plain[name]
        if name == "t5":
            ids = [1] + [0] * (len(ours) - 1)
            empty = tower.t5([ids])[0]
        else:
            empty = tower.encode([""])[0][name]
        # CLIP cuts `1girl` after its digit.
        gone = torch.zeros(len(ours), dtype=torch.bool)
        gone[first + (2 if first else 1) :][:2] = True
        torch.testing.assert_close(ours[gone], empty[gone], rtol=1e-5, atol=1e-5)
        assert torch.equal(ours[~gone], whole[~gone])
        assert not torch.allclose(ours[gone], whole[gone], atol=1e-3)


def test_states_are_a_line_in_the_weight_and_pooled_vectors_do_not_move(tower):
    zero, one, two = (tower.encode_weighted([[("a ", 1.0), ("chibi", weight)]])[0] for weight in (0.0, 1.0, 2.0))
    for name in one:
        if name.startswith("pooled"):
            assert torch.equal(zero[name], two[name]) and torch.equal(one[name], two[name])
        else:
            assert not torch.equal(one[name], two[name])
            torch.testing.assert_close(two[name] - one[name], one[name] - zero[name], rtol=1e-4, atol=1e-5)


def test_the_list_around_a_prompt_never_changes_its_row(tower):
    prompts = [parse(prompt) for prompt in PROMPTS]
    together = tower.encode_weighted(prompts)
    backwards = tower.encode_weighted(prompts[::-1])[::-1]
    for prompt, ours, others in zip(prompts, together, backwards, strict=True):
        alone = tower.encode_weighted([prompt])[0]
        assert all(torch.equal(ours[name], alone[name]) and torch.equal(others[name], alone[name]) for name in alone)
    assert tower.encode_weighted([]) == []


def test_rows_collate_with_those_of_encode(tower):
    rows = [*tower.encode(["1girl, smile"]), *tower.encode_weighted([parse("(chibi:2), 1girl")])]
    cond = tower.collate(rows)
    assert cond["text"].shape[0] == 2 and cond["text"].isfinite().all()


def test_encode_is_literal(tower):
    literal, weighted = tower.encode(["(chibi:2)"])[0], tower.encode_weighted([parse("(chibi:2)")])[0]
    assert not torch.equal(literal["clip_l"], weighted["clip_l"])


def test_rows_have_the_stored_type_and_need_no_t5():
    tower = tiny_tower(WORDS, with_t5=False)
    row = tower.encode_weighted([parse("(chibi:2)")])[0]
    assert set(row) == {"clip_l", "clip_g", "pooled_l", "pooled_g"}
    assert {tensor.dtype for tensor in row.values()} == {torch.bfloat16}
