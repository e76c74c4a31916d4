"""Prompts that a person wrote are read for emphasis; the card gets them as captions write them."""

from __future__ import annotations

import pytest

from animeflow.app.prompts import has_emphasis
from animeflow.app.record import _as_caption


@pytest.mark.parametrize(
    ("sample", "recorded"),
    [
        ({"prompts": ["..."], "prompt_weights": True}, "smile, miku (vocaloid)"),
        ({"prompts": ["..."], "prompt_weights": False}, r"(smile:1.3), miku \(vocaloid\)"),
        ({"prompts": None, "prompt_weights": True}, r"(smile:1.3), miku \(vocaloid\)"),
    ],
)
def test_emphasis_is_taken_out_of_what_is_recorded_only_where_it_was_read(sample, recorded) -> None:
    config = {"sample": sample}
    assert has_emphasis(config) == (recorded == "smile, miku (vocaloid)")
    assert _as_caption(config, r"(smile:1.3), miku \(vocaloid\)") == recorded
