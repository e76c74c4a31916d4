"""How long and how a run trains, and how far it is. Knows numbers and names; knows no tensor and no loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Settings:
    """How long and how. Raises ConfigError on a value that makes no run.

    Args:
        images: length of the run.
        precision: "fp32" or "bf16" (autocast over float32 weights). fp16 is refused.
        clip: global gradient norm above which gradients are scaled down; 0 turns it off.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them. Changes no weight.
        ema_half_life_images: of the weight average.
        log_every_images, checkpoint_every_images: rhythm; 0 means only at the end, where both are done in any case.
        keep_checkpoints: how many stay on disk.
        device: "auto", "cpu" or "cuda".
    """

    images: int
    precision: str = "bf16"
    clip: float = 1.0
    gradient_checkpointing: bool = False
    ema_half_life_images: float = 4000.0
    log_every_images: int = 500
    checkpoint_every_images: int = 10_000
    keep_checkpoints: int = 2
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.precision == "fp16":
            raise ConfigError(
                "precision fp16 is not offered",
                where="train.precision",
                why="activations of these transformers pass 65504 and fp16 turns them into NaN",
                do="use train.precision=bf16",
            )
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"unknown precision '{self.precision}'", where="train.precision", do="use fp32 or bf16")
        if self.device not in DEVICES:
            raise ConfigError(f"unknown device '{self.device}'", where="train.device", do=f"use {', '.join(DEVICES)}")
        self._require("images", self.images > 0, "above 0", "give the length of the run in images")
        self._require("clip", self.clip >= 0, "0 or above", "1.0 is usual, 0 turns clipping off")
        self._require("ema_half_life_images", self.ema_half_life_images > 0, "above 0", "a tenth of the run is usual")
        for name in ("log_every_images", "checkpoint_every_images"):
            self._require(name, getattr(self, name) >= 0, "0 or above", "0 means only at the end of the run")
        self._require(
            "keep_checkpoints", self.keep_checkpoints >= 1, "1 or above", "a run needs one to be resumed from"
        )

    def _require(self, name: str, good: bool, rule: str, do: str) -> None:
        if not good:
            raise ConfigError(f"{name} {getattr(self, name)} is not {rule}", where=f"train.{name}", do=do)

    def require_device(self, *, cuda: bool) -> None:
        """Raises ConfigError when the device that is asked for is not here; `cuda`: whether torch sees one."""
        if self.device == "cuda" and not cuda:
            raise ConfigError(
                "there is no CUDA device for device 'cuda'",
                where="train.device",
                why="on the CPU the run would be many times slower than was meant",
                do="check the driver and that torch was installed with CUDA, or set train.device=auto or cpu",
            )


@dataclass
class Progress:
    """Where the run is. All of it is in every checkpoint."""

    images_seen: int = 0
    step: int = 0
    seconds: float = 0.0
    skipped_steps: int = 0
    hooks_done: dict[str, int] = field(default_factory=dict)
