"""The contract, kept by sd35/tiny under every length policy of T5, with captions longer than CLIP, and without T5."""

from __future__ import annotations

from typing import Any, ClassVar

from contract import FamilyContract

from animeflow.model.sd35.family import SD35

WORDS = [
    "blue",
    "red",
    "pink",
    "hair",
    "eyes",
    "a",
    "girl",
    "with",
    "long",
    "smiling",
    "on",
    "the",
    "beach",
    "at",
    "night",
]


class TestTiny(FamilyContract):
    silent = ("attn.add_q_proj", "attn.norm_added_q")  # the last block's text asks, and its answer is thrown away
    options: ClassVar[dict[str, Any]] = {}

    @classmethod
    def build(cls):
        return SD35("tiny", vocabulary=WORDS, **cls.options)


class TestTinyWithRaggedText(TestTiny):
    options: ClassVar[dict[str, Any]] = {"t5_pad_policy": "unpadded", "clip_length": 24}


class TestTinyWithComfysText(TestTiny):
    options: ClassVar[dict[str, Any]] = {"t5_pad_policy": "comfy", "clip_length": 10}


class TestTinyWithLongClip(TestTiny):
    options: ClassVar[dict[str, Any]] = {"t5_pad_policy": "comfy", "clip_length": 10, "clip_chunks": 3}


class TestTinyWithoutT5(TestTiny):
    options: ClassVar[dict[str, Any]] = {
        "with_t5": False,
        "depth": 2,
        "dual_attention_layers": (0,),
        "joint_attention_dim": 64,
    }
