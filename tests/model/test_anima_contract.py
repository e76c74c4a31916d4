"""The contract, kept by anima/tiny with every way its adapter can learn, every null prompt, and captions beyond the floor."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from contract import FamilyContract

from animeflow.core.errors import ConfigError
from animeflow.model.anima.family import Anima

WORDS = [
    *("blue", "red", "pink", "hair", "eyes", "a", "girl", "with"),
    *("long", "smiling", "on", "the", "beach", "at", "night"),
]


class TestTiny(FamilyContract):
    options: ClassVar[dict[str, Any]] = {"adapter": "train"}

    @classmethod
    def build(cls):
        return Anima("tiny", vocabulary=WORDS, **cls.options)


class TestTinyWithPositionsByRotationOnly(TestTiny):
    options: ClassVar[dict[str, Any]] = {"adapter": "train", "learned_positions": False, "depth": 2}


class TestTinyWithComfysNull(TestTiny):
    options: ClassVar[dict[str, Any]] = {"adapter": "train", "empty_prompt": "comfy"}


class TestTinyWithCaptionsBeyondTheFloor(TestTiny):
    options: ClassVar[dict[str, Any]] = {"adapter": "train", "text_floor": 4, "depth": 2}


@pytest.mark.parametrize(
    "options, where",
    [
        ({"flavour": "tiney"}, "did you mean 'tiny'"),
        ({"adapter": "lora", "adapter_rank": 0}, "rank 0 is below 1"),
        ({"empty_prompt": "mask"}, "did you mean 'masked'"),
        ({"text_dtype": "bf15"}, "did you mean 'bf16'"),
        ({"heads": 0}, "num_attention_heads 0 is below 1"),
        ({"weights": "nowhere.safetensors"}, "no weights at"),
        ({"qwen_dim": 48}, "not a multiple of 32"),
    ],
)
def test_a_wrong_option_is_told_by_name(options, where):
    with pytest.raises(ConfigError, match=where):
        Anima(**{"flavour": "tiny", "vocabulary": WORDS, **options}).text_tower()


def test_the_real_one_asks_for_its_files():
    base = Anima("base")
    for part in (base.backbone, base.codec, base.text_tower):
        with pytest.raises(ConfigError, match="anima/base has no"):
            part()


def test_an_adapter_that_learns_has_a_rate_of_its_own():
    own = {mode: [p.own_rate for p in Anima("tiny", vocabulary=WORDS, adapter=mode).sizes() if p.trainable]
           for mode in ("freeze", "train", "lora")}  # fmt: skip
    assert own == {"freeze": [None], "train": [None, "adapter"], "lora": [None, "adapter"]}
