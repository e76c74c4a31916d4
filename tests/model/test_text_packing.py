"""Captions in groups of one length: nothing lost, no padding computed, and who is beside whom changes no row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from animeflow.model.anima.tiny import tiny_tower as anima_tower
from animeflow.model.packing import Returning, groups, sent
from animeflow.model.sd35.t5_length import POLICIES, T5Length
from animeflow.model.sd35.tiny import tiny_tower as sd35_tower

WORDS = ["blue", "red", "hair", "eyes", "smile", "hat"]
CAPTIONS = [
    " ".join((WORDS * 4)[start : start + length]) for length in (0, 1, 5, 5, 9, 14, 14, 14, 21) for start in (0, 3)
]


def towers(**options: Any) -> dict[str, Any]:
    length = {"clip_length": 12, "joint_dim": 48}
    both = {p: sd35_tower(WORDS, t5_length=T5Length(p, 12, 12, 24), **length, **options) for p in POLICIES}
    return both | {"anima": anima_tower(WORDS, qwen_dim=32, **options)}


@pytest.fixture(scope="module", params=[*POLICIES, "anima"])
def exact(request: pytest.FixtureRequest) -> Any:
    """A tower whose rows are not rounded."""
    return towers(row_dtype=torch.float32)[request.param]


def encoder(tower: Any) -> Any:
    """The large one."""
    return tower.model if "qwen" in tower.encoders else tower.t5.model


@contextmanager
def computed(tower: Any) -> Iterator[list[Tensor]]:
    """The ids that the large encoder is given, call by call."""
    calls: list[Tensor] = []

    def note(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls.append(given[0] if given else named["input_ids"])

    hook = encoder(tower).register_forward_pre_hook(note, with_kwargs=True)
    yield calls
    hook.remove()


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 7), st.sampled_from([1, 4, 16]))
def test_groups_hold_every_row_once_of_one_length_and_the_longest_come_first(lengths: list[int], most: int, step: int):
    found = groups(lengths, most=most, step=step)
    assert sorted(place for group in found for place in group) == list(range(len(lengths)))
    rounded = [math.ceil(length / step) for length in lengths]
    seen = []
    for group in found:
        (length,) = {rounded[place] for place in group}
        assert 0 < len(group) <= most and group == sorted(group)
        seen.append(length)
    assert seen == sorted(seen, reverse=True)
    assert all(seen.count(length) == math.ceil(rounded.count(length) / most) for length in seen)


def test_a_row_is_the_same_whoever_is_encoded_beside_it(exact: Any, monkeypatch: pytest.MonkeyPatch):
    alone = [exact.encode([caption])[0] for caption in CAPTIONS]
    for at_once in (32, 3):
        monkeypatch.setattr(exact, "captions_at_once", at_once)
        for row, other in zip(exact.encode(CAPTIONS), alone, strict=True):
            assert row.keys() == other.keys()
            for name, tensor in row.items():
                torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-6)


def test_the_order_of_captions_and_how_often_they_come_decide_nothing(exact: Any, monkeypatch: pytest.MonkeyPatch):
    """Neither a bit of a row nor who is computed beside whom, on which rounding on a GPU depends."""
    monkeypatch.setattr(exact, "captions_at_once", 3)
    mixed = [*reversed(CAPTIONS), *CAPTIONS[::3]]
    with computed(exact) as first:
        rows = dict(zip(CAPTIONS, exact.encode(CAPTIONS), strict=True))
    with computed(exact) as second:
        others = exact.encode(mixed)
    assert [ids.tolist() for ids in first] == [ids.tolist() for ids in second] and len(first) >= 4
    for caption, row in zip(mixed, others, strict=True):
        assert all(torch.equal(tensor, rows[caption][name]) for name, tensor in row.items())


def test_rows_are_computed_once_at_their_own_length_the_longest_first(exact: Any):
    captions = [*CAPTIONS, *CAPTIONS]
    with computed(exact) as groups_of_ids:
        rows = dict(zip(captions, exact.encode(captions), strict=True))
    lengths = [len(row["t5" if "t5" in row else "qwen"]) for row in rows.values()]
    if "qwen" not in exact.encoders:  # padding would change its features
        assert sum(ids.numel() for ids in groups_of_ids) == sum(lengths)
        assert [ids.shape[1] for ids in groups_of_ids] == sorted(set(lengths), reverse=True)
    else:  # it would not, and few calls are worth a few tokens
        rounded = {math.ceil(length / exact.round_to): length for length in sorted(lengths) if length}
        assert [ids.shape[1] for ids in groups_of_ids] == sorted(rounded.values(), reverse=True)
        assert sum(ids.numel() for ids in groups_of_ids) < sum(lengths) + exact.round_to * len(lengths)


def test_what_follows_a_caption_of_qwen_reaches_none_of_its_tokens():
    one, other = (anima_tower(WORDS, qwen_dim=32, row_dtype=torch.float32, round_to=step) for step in (1, 64))
    with computed(one) as exact_calls, computed(other) as calls:
        pairs = zip(one.encode(CAPTIONS), other.encode(CAPTIONS), strict=True)
        for row, padded in pairs:
            torch.testing.assert_close(row["qwen"], padded["qwen"], rtol=1e-5, atol=1e-6)
    assert len(calls) == 1 < len(exact_calls)
    assert one.fingerprint == other.fingerprint, "the rows are the same, and so are their addresses"


def test_rows_own_their_memory_and_know_no_gradient(exact: Any):
    for row in exact.encode(CAPTIONS):
        for tensor in row.values():
            assert tensor.untyped_storage().nbytes() == tensor.nbytes, "a row would keep its whole group"
            assert not tensor.requires_grad and not tensor.is_inference()
    assert not any(p.requires_grad for p in encoder(exact).parameters()) and not encoder(exact).training


def test_what_returns_is_rounded_and_an_error_hands_nothing_out():
    taken: list[torch.Tensor] = []
    with Returning(torch.bfloat16) as returning:
        returning.add(torch.tensor([1.0009765625]), taken.append)
    assert torch.equal(taken[0], torch.tensor([1.0], dtype=torch.bfloat16))
    assert torch.equal(sent(torch.arange(3), torch.device("cpu")), torch.arange(3))
