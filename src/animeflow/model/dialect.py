"""What a set of names for LoRA files has to offer. Knows tensors and names; knows no family and no disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from .low_rank import LowRankState


@runtime_checkable
class Dialect(Protocol):
    """One way to name the tensors of a LoRA. `write` and `read` are a pair: reading gives back what adds the same delta W."""

    name: str  # "kohya", "comfyui", "diffusers", "peft"
    readers: tuple[str, ...]  # programs that read it, for people
    place: str  # for the model card: where its files go, e.g. "`ComfyUI/models/loras`"
    example: str  # for the model card: code that loads it, Markdown, `{file}` and `{base}` for names; may be empty

    def write(self, state: LowRankState) -> dict[str, Tensor]:
        """The tensors of a file. Raises ConfigError for what this dialect has no words for."""

    def read(self, tensors: Mapping[str, Tensor]) -> LowRankState:
        """The additions back from the tensors of a file. Nothing is guessed and nothing passed over: raises DataError that names
        the keys that belong to no layer, or lack their other half."""

    def matches(self, names: Iterable[str]) -> bool:
        """Whether every layer that these keys speak of is one of this dialect and family."""

    def readers_of(self, state: LowRankState) -> tuple[str, ...]:
        """Of the `readers` those that apply all that these additions have, lengths of DoRA too."""

    def unread(self, names: Collection[str]) -> dict[str, str]:
        """Of a network's layers those that change nothing that is drawn, and why: an addition to one learns nothing."""

    def notes(self, state: LowRankState) -> list[str]:
        """What programs that read this dialect make otherwise of these additions, or leave out: for log and card."""
