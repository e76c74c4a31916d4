"""The contract, kept by anima/tiny with every way its adapter can learn, every null prompt, and captions beyond the floor."""

from __future__ import annotations

from typing import Any, ClassVar

from contract import FamilyContract

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
