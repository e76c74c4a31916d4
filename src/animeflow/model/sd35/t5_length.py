"""How many T5 tokens a caption gets. SD3 never masks T5's padding, so this number changes every feature. Knows integers only."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import ConfigError, did_you_mean

POLICIES = ("diffusers", "comfy", "unpadded", "buckets")
BUCKETS = (77, 128, 256)  # of a minimum of 77; another minimum scales them


@dataclass(frozen=True)
class T5Length:
    """Length policy, a part of every cache address.

    Attributes:
        policy: `diffusers`: cut and padded to exactly `length`. `comfy`: padded to `minimum`; longer captions keep their own
            length up to `maximum`. `unpadded`: real tokens only, up to `maximum`. `buckets`: padded to the first of `lengths`
            that holds it, cut at the last.
    """

    policy: str = "diffusers"
    length: int = 256
    minimum: int = 77
    maximum: int = 512

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(
                f"unknown t5_pad_policy '{self.policy}'{did_you_mean(self.policy, POLICIES)}",
                where="model.t5_pad_policy",
                why="T5 attends to its own padding, so another length gives other features",
                do=f"choose one of: {', '.join(POLICIES)}",
            )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of `buckets`, ascending: 77, 128 and 256, or as much less as the minimum is less than 77; none above `maximum`."""
        return tuple(sorted({min(size * self.minimum // BUCKETS[0], self.maximum) for size in BUCKETS}))

    @property
    def limit(self) -> int:
        """Most tokens that any caption keeps, the end token included."""
        if self.policy == "buckets":
            return self.lengths[-1]
        return self.length if self.policy == "diffusers" else self.maximum

    @property
    def null(self) -> int:
        """Tokens of the zero block that stands for a T5 that is not there: diffusers appends one, ComfyUI does not."""
        return self.length if self.policy == "diffusers" else 0

    def __call__(self, tokens: int) -> int:
        """Length of a caption that has `tokens` tokens (end token included) before cutting and padding."""
        if self.policy == "diffusers":
            return self.length
        kept = min(tokens, self.limit)
        if self.policy == "buckets":
            return next(size for size in self.lengths if size >= kept)
        return max(kept, self.minimum) if self.policy == "comfy" else kept
