"""Anima's text: against features computed here from the published rules with transformers alone; ragged rows, nulls, emphasis."""

from __future__ import annotations

import pytest
import torch

from animeflow.core.errors import ConfigError
from animeflow.model.anima.backbone import Backbone
from animeflow.model.anima.shapes import shape
from animeflow.model.anima.text_tower import AnimaTextTower, load_tokenizers
from animeflow.model.anima.tiny import tiny_tower

WORDS = ["blue", "red", "hair", "eyes", "a", "girl", "with", "long", "chibi", ",", "(", ")"]
SHORT, LONG = "blue hair", "a girl with long red hair, blue eyes, chibi, chibi"


def tower(**options) -> AnimaTextTower:
    return tiny_tower(WORDS, row_dtype=torch.float32, **options)


@pytest.fixture(scope="module")
def plain() -> AnimaTextTower:
    return tower()


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """A stirred adapter with a floor of twelve tokens, which the longer captions pass."""
    net = Backbone.random(shape("tiny", text_floor=12), seed=1)
    with torch.no_grad():
        for name, parameter in sorted(net.named_parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return net.eval()


@torch.no_grad()
def published(
    backbone: Backbone, tower: AnimaTextTower, caption: str, *, weights: list[float] | None = None
) -> torch.Tensor:
    """Features of one caption by the rules of the clients, computed alone: `[max(floor, n), D]`."""
    ids = tower.tokenizer(caption)["input_ids"]
    states = torch.zeros(1, 1, tower.width)
    mask = torch.zeros(1, 1, dtype=torch.bool)
    if ids:
        states = tower.model(input_ids=torch.tensor([ids])).last_hidden_state
        mask = torch.ones(1, len(ids), dtype=torch.bool)
    t5 = torch.tensor([tower.t5_tokenizer(caption)["input_ids"]])
    features = backbone.adapter(states, t5, torch.ones_like(t5), mask)[0]
    if weights is not None:
        features[: len(weights)] *= torch.tensor(weights)[:, None]
    return features


@torch.no_grad()
def features(backbone: Backbone, tower: AnimaTextTower, captions: list[str]) -> torch.Tensor:
    return backbone.text(tower.collate(tower.encode(captions)))[0]


def test_features_follow_the_published_rules(backbone, plain):
    for caption in (SHORT, LONG, ""):
        ours = features(backbone, plain, [caption])[0]
        torch.testing.assert_close(ours, published(backbone, plain, caption), rtol=0, atol=1e-5)


def test_features_are_zero_after_the_caption_up_to_the_floor(backbone, plain):
    ours = features(backbone, plain, [SHORT])[0]
    tokens = len(plain.t5_tokenizer(SHORT)["input_ids"])
    assert len(ours) == 12
    assert ours[tokens:].abs().max() == 0
    assert ours[:tokens].abs().amax(1).min() > 0


def test_a_caption_longer_than_the_floor_is_neither_cut_nor_padded(backbone, plain):
    tokens = len(plain.t5_tokenizer(LONG)["input_ids"])
    assert tokens > 12
    assert len(features(backbone, plain, [LONG])[0]) == tokens
    assert plain.num_tokens(LONG)["t5"] == (tokens, tokens)


@torch.no_grad()
def test_a_short_caption_beside_a_long_one_sees_the_floor_and_no_more(backbone, plain):
    """More zeros to rest on are other features; so the padding that the long caption brings is hidden from the short one."""
    x, t = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.8])
    together = backbone(x, t, plain.collate(plain.encode([SHORT, LONG])))
    for i, caption in enumerate((SHORT, LONG)):
        alone = backbone(x[i : i + 1], t[i : i + 1], plain.collate(plain.encode([caption])))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_rows_are_as_long_as_their_captions(plain):
    for caption in (SHORT, LONG):
        row = plain.encode([caption])[0]
        assert len(row["qwen"]) == len(plain.tokenizer(caption)["input_ids"])
        assert row["t5_ids"].tolist() == plain.t5_tokenizer(caption)["input_ids"]


def test_the_empty_caption_has_no_state_and_one_token(backbone, plain):
    row = plain.encode([""])[0]
    assert row["qwen"].shape == (0, 64)
    assert row["t5_ids"].tolist() == [plain.t5_tokenizer.eos_token_id]
    ours = features(backbone, plain, [""])
    assert ours.isfinite().all()
    assert ours[0, 0].abs().max() > 0  # it went through the adapter


def test_dropping_both_encoders_is_the_empty_caption(backbone, plain):
    dropped = plain.collate(plain.encode([LONG]), drop=[frozenset({"qwen", "t5"})])
    empty = plain.collate(plain.encode([""]))
    assert {name: tensor.tolist() for name, tensor in dropped.items()} == {n: t.tolist() for n, t in empty.items()}


def test_comfys_null_is_the_state_of_one_padding_token(backbone, plain):
    comfy = tower(empty_prompt="comfy")
    row = comfy.encode([""])[0]
    expected = comfy.model(input_ids=torch.tensor([[comfy.tokenizer.pad_token_id]])).last_hidden_state[0]
    torch.testing.assert_close(row["qwen"], expected, rtol=0, atol=1e-6)
    assert not torch.allclose(features(backbone, comfy, [""]), features(backbone, plain, [""]), atol=1e-3)
    assert comfy.fingerprint != plain.fingerprint
    assert torch.equal(comfy.encode([SHORT])[0]["qwen"], plain.encode([SHORT])[0]["qwen"])


def test_an_unknown_null_is_told():
    with pytest.raises(ConfigError, match="did you mean 'comfy'"):
        tower(empty_prompt="comfi")


@torch.no_grad()
def test_a_row_that_is_wholly_masked_is_finite_even_if_attention_is_not(backbone, plain, monkeypatch):
    """Some kernels divide zero by zero where every key is hidden; then nothing of it may reach the features."""
    attend = torch.nn.functional.scaled_dot_product_attention

    def brittle(query, key, value, attn_mask=None, **options):
        out = attend(query, key, value, attn_mask=attn_mask, **options)
        hidden = ~attn_mask.expand(-1, -1, query.shape[2], -1).any(-1, keepdim=True) if attn_mask is not None else None
        return out if hidden is None else out.masked_fill(hidden, float("nan"))

    expected = features(backbone, plain, ["", SHORT])
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", brittle)
    torch.testing.assert_close(features(backbone, plain, ["", SHORT]), expected, rtol=0, atol=0)


def test_emphasis_multiplies_the_features_of_its_tokens(backbone, plain):
    pieces = [("a girl with", 1.0), (" chibi", 2.0), (" hair", 0.5)]
    counts = [len(plain.t5_tokenizer(text, add_special_tokens=False)["input_ids"]) for text, _ in pieces]
    weights = [weight for (_, weight), count in zip(pieces, counts) for _ in range(count)]
    # These pieces fall into the same tokens alone as together, so the plain caption is the unweighted prompt.
    text = "".join(piece for piece, _ in pieces)
    assert len(plain.t5_tokenizer(text)["input_ids"]) == sum(counts) + 1
    assert torch.equal(plain.encode_weighted([pieces])[0]["qwen"], plain.encode([text])[0]["qwen"])
    with torch.no_grad():
        ours = backbone.text(plain.collate(plain.encode_weighted([pieces])))[0][0]
    torch.testing.assert_close(ours, published(backbone, plain, text, weights=weights), rtol=0, atol=1e-5)


def test_a_prompt_without_emphasis_is_its_caption(plain):
    for weighted, row in zip(plain.encode_weighted([[(LONG, 1.0)], []]), plain.encode([LONG, ""])):
        assert weighted.keys() == row.keys()
        assert all(torch.equal(weighted[name], row[name]) for name in row)


def test_emphasis_beside_a_plain_prompt_leaves_it_alone(backbone, plain):
    rows = plain.encode_weighted([[(SHORT, 1.0)], [("chibi", 2.0)]])
    with torch.no_grad():
        together = backbone.text(plain.collate(rows))[0]
        alone = backbone.text(plain.collate(rows[:1]))[0]
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-5)


def test_a_saved_tower_is_the_same_tower(plain, tmp_path):
    plain.save(tmp_path)
    again = AnimaTextTower.load(tmp_path, row_dtype=torch.float32)
    for ours, theirs in zip(plain.encode([SHORT, LONG, ""]), again.encode([SHORT, LONG, ""])):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_missing_tokenizers_are_named(tmp_path):
    with pytest.raises(ConfigError, match="tokenizer or qwen"):
        load_tokenizers(tmp_path)
