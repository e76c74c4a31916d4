"""How many T5 tokens a caption gets. SD3 never masks T5's padding, so this number changes every feature. Knows integers only."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import ConfigError, did_you_mean

POLICIES = ("diffusers", "comfy", "unpadded")


@dataclass(frozen=True)
class T5Length:
    """Length policy, a part of every cache address.

    Attributes:
        policy: `diffusers`: cut and padded to exactly `length`. `comfy`: padded to `minimum`; longer captions keep their own
            length up to `maximum`. `unpadded`: real tokens only, up to `maximum`.
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
    def limit(self) -> int:
        """Most tokens that any caption keeps, the end token included."""
        return self.length if self.policy == "diffusers" else self.maximum

    @property
    def null(self) -> int:
        """Tokens of the zero block that stands for a T5 that is not there: diffusers appends one, ComfyUI does not."""
        return self.length if self.policy == "diffusers" else 0

    def __call__(self, tokens: int) -> int:
        """Length of a caption that has `tokens` tokens (end token included) before cutting and padding."""
        if self.policy == "diffusers":
            return self.length
        kept = min(tokens, self.maximum)
        return max(kept, self.minimum) if self.policy == "comfy" else kept
