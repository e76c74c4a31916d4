"""Prompts that a person wrote are read for emphasis; the card gets them as captions write them."""

from __future__ import annotations

import pytest

from animeflow.app.compose import compose
from animeflow.app.prompts import example_prompts, has_emphasis
from animeflow.app.record import _as_caption
from animeflow.core.errors import ConfigError


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


@pytest.mark.parametrize(
    ("word", "prompts"),
    [
        ("sample.prompts=1girl", ["1girl"]),
        ("sample.prompts='1girl, smile'", ["1girl, smile"]),
        ("sample.prompts=[1girl,'']", ["1girl", ""]),
        ("sample.prompts=''", [""]),
        ("sample.prompts=[]", []),
    ],
)
def test_a_text_is_one_prompt_and_a_list_is_its_prompts(word, prompts) -> None:
    assert example_prompts(compose([word]), 3) == prompts


@pytest.mark.parametrize("word", ["sample.prompts=3", "sample.prompts=[1girl,3]"])
def test_what_is_no_prompt_is_told(word) -> None:
    with pytest.raises(ConfigError, match=r"where: sample\.prompts"):
        example_prompts(compose([word]), 3)
