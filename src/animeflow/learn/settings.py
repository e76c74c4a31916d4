"""How a low-rank addition learns. Knows numbers and patterns of names; knows no tensor and no family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from ..core.errors import ConfigError, did_you_mean

BASE_DTYPES = ("fp32", "bf16", "int8", "nf4")
UNSUPPORTED = ("lokr", "loha", "locon", "lycoris", "oft", "boft", "ia3", "glora", "full", "vera")
WHERE = "learn"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Options of a LoRA. Raises ConfigError on a value that makes none.

    Args:
        rank: of every layer that `ranks` does not name.
        alpha: the addition is scaled by alpha / rank; None is the rank of each layer, so a scale of 1.
        targets: a preset of the family (`default`: attention and MLP of all blocks) or patterns of layer names, `*` for anything.
        ranks, alphas: of layers by pattern; the first that fits counts. A rank of 0 leaves a layer out.
        rslora: scale by alpha / sqrt(rank) (arXiv 2312.03732).
        dora: learn the length of every row apart (arXiv 2402.09353): slower, for small sets.
        dropout: of what goes into the addition. Drawn by step, process and micro-batch: a resumed run draws the same, another
            number of processes does not.
        start: a LoRA file of any dialect to go on from; its layers and ranks then count.
        base_dtype: of the frozen weights in the blocks. "int8" and "nf4" are for small cards.
    """

    rank: int = 32
    alpha: float | None = None
    targets: str | tuple[str, ...] = "default"
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    rslora: bool = False
    dora: bool = False
    dropout: float = 0.0
    start: Path | None = None
    base_dtype: str = "bf16"

    def __post_init__(self) -> None:
        _require(self.rank >= 1, "rank", self.rank, "1 or above", "16 to 64 are usual")
        _require(self.alpha is None or self.alpha > 0, "alpha", self.alpha, "above 0", "leave it null: the rank itself")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "a share below 1", "0 is usual")
        for pattern, rank in self.ranks.items():
            _require(rank >= 0, f"ranks.{pattern}", rank, "0 or above", "0 leaves the layer out")
        for pattern, alpha in self.alphas.items():
            _require(alpha > 0, f"alphas.{pattern}", alpha, "above 0", "the rank of the layer is usual")
        if self.base_dtype not in BASE_DTYPES:
            raise ConfigError(
                f"unknown base_dtype '{self.base_dtype}'{did_you_mean(self.base_dtype, BASE_DTYPES)}",
                where=f"{WHERE}.base_dtype",
                do=f"choose one of: {', '.join(BASE_DTYPES)}",
            )

    def rank_of(self, layer: str) -> int:
        return next((rank for pattern, rank in self.ranks.items() if fnmatchcase(layer, pattern)), self.rank)

    def alpha_of(self, layer: str) -> float:
        """The numerator of the scale `alpha / rank` in effect, rsLoRA folded in."""
        rank = self.rank_of(layer)
        own = next((alpha for pattern, alpha in self.alphas.items() if fnmatchcase(layer, pattern)), self.alpha)
        alpha = float(rank if own is None else own)
        return alpha * rank**0.5 if self.rslora else alpha


def _require(good: bool, name: str, value: object, rule: str, do: str) -> None:
    if not good:
        raise ConfigError(f"{name} {value} is not {rule}", where=f"{WHERE}.{name}", do=do)
