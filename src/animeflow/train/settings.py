"""How long and how a run trains, and how far it is. Knows numbers and names; knows no tensor and no loop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..core.errors import ConfigError, did_you_mean

DEVICES = ("auto", "cpu", "cuda")
SHARDINGS = ("auto", "none", "fsdp2", "hsdp")
ATTENTIONS = ("auto", "cudnn", "flash", "fa3", "fa4", "efficient", "math")
ACTIVATIONS = ("none", "selective", "full", "budget")
NONFINITE = ("skip", "stop")
SPIKES = ("off", "log", "skip", "rollback")


@dataclass(frozen=True)
class Averages:
    """Averages of the weights, one per width, after Karras et al. (arXiv 2312.02696, "EDM2").

    Args:
        sigma_rels: widths as shares of the run so far.
        use: which of them validation, samples and exports take.
        snapshots: how often over the whole run both are kept for `animeflow ema`; 0 keeps none.
        snapshot_dtype: "fp32", "fp16" or "bf16" on disk.
    """

    sigma_rels: tuple[float, ...] = (0.05, 0.10)
    use: float = 0.10
    snapshots: int = 0
    snapshot_dtype: str = "fp16"

    def __post_init__(self) -> None:
        for width in self.sigma_rels:
            _require(0 < width < 0.28, "train.ema.sigma_rels", width, "between 0 and 0.28", "0.05 and 0.10 are usual")
        _require(len(set(self.sigma_rels)) == len(self.sigma_rels) > 0, "train.ema.sigma_rels", list(self.sigma_rels),
                 "one or more different widths", "0.05 and 0.10 are usual")  # fmt: skip
        _require(self.use in self.sigma_rels, "train.ema.use", self.use, "one of train.ema.sigma_rels", "add it there")
        _require(self.snapshots >= 0, "train.ema.snapshots", self.snapshots, "0 or above", "16 to 64 are usual")
        _one_of("train.ema.snapshot_dtype", self.snapshot_dtype, ("fp32", "fp16", "bf16"))


@dataclass(frozen=True)
class Guard:
    """What is done when a step goes wrong.

    Args:
        nonfinite: a loss or gradient that is no number: "skip" the step, or "stop" the run.
        spike: a loss far above what its timesteps let expect, or a gradient norm far above the last ones: "off", "log",
            "skip" the step, or "rollback" to an earlier checkpoint after three in a row, passing over the steps since.
        z: how many robust standard deviations are far.
        window: steps that are looked back at.
        max_share: of steps that may be skipped before the run stops.
        rollbacks: how many are allowed in a run.
    """

    nonfinite: str = "skip"
    spike: str = "log"
    z: float = 6.0
    window: int = 256
    max_share: float = 0.01
    rollbacks: int = 3

    def __post_init__(self) -> None:
        _one_of("train.guard.nonfinite", self.nonfinite, NONFINITE)
        _one_of("train.guard.spike", self.spike, SPIKES)
        _require(self.z > 0, "train.guard.z", self.z, "above 0", "6 is usual")
        _require(self.window >= 16, "train.guard.window", self.window, "16 or above", "256 is usual")
        _require(0 <= self.max_share <= 1, "train.guard.max_share", self.max_share, "a share", "0.01 is usual")
        _require(self.rollbacks >= 0, "train.guard.rollbacks", self.rollbacks, "0 or above", "3 is usual")


@dataclass(frozen=True)
class Routing:
    """Tokens of the picture that pass inner blocks by while the model is trained (arXiv 2501.04765, "TREAD"; `model/routing`).

    Args:
        share: of the tokens; 0 turns it off.
        first, last: block that they pass by first and last; -4 is the fourth from the end.
        dense_share: of the run, at its end, in which none passes by: the model is used that way.
    """

    share: float = 0.0
    first: int = 2
    last: int = -4
    dense_share: float = 0.15

    def __post_init__(self) -> None:
        _require(
            0 <= self.share < 1, "train.routing.share", self.share, "a share below 1", "0.5 is usual, 0 turns it off"
        )
        _require(0 <= self.dense_share <= 1, "train.routing.dense_share", self.dense_share, "a share", "0.15 is usual")

    def on(self, images_seen: int, *, images: int) -> bool:
        """Whether tokens pass by in the step that begins after `images_seen` of `images`."""
        return self.share > 0 and images_seen < (1 - self.dense_share) * images


@dataclass(frozen=True)
class Settings:
    """How long and how. Raises ConfigError on a value that makes no run.

    Args:
        images: length of the run.
        precision: "fp32" or "bf16" (autocast over float32 weights). fp16 is refused.
        clip: global gradient norm above which gradients are scaled down; 0 turns it off.
        sharding: "none" keeps a whole copy on every process (DDP); "fsdp2" spreads weights, gradients, moments and averages over
            all processes; "hsdp" does so within `replicas` groups of them; "auto" does what accelerate's launcher file says.
        replicas: groups of processes under "hsdp", usually the number of nodes.
        compile: compile the transformer blocks, one by one.
        attention: the kernel; "auto" measures those that are there at the run's shape and takes the fastest.
        activation_memory: what is kept for the backward pass: "none" computes nothing again, "selective" what is cheap,
            "full" every block, "budget" as much as fits `activation_budget`, a share of what "none" keeps (needs `compile`).
        fp8: linear layers in 8 bits; needs a GPU that has them, torchao, and `compile`.
        routing, ema, guard: see `Routing`, `Averages` and `Guard`.
        log_every_images, checkpoint_every_images: rhythm; 0 means only at the end, where both are done in any case.
        keep_checkpoints: how many of the newest stay on disk.
        keep_every_images: besides them, the first checkpoint of every so many images stays for good; 0 keeps none.
        checkpoint_async: write checkpoints while training goes on.
        ledger: keep a record of every picture: times seen, loss beside that of its timesteps.
        watchdog_seconds: a step that takes longer writes the stacks of its process to the run's folder; 0 turns it off.
        timeout_seconds: of a collective operation between processes.
        device: "auto", "cpu" or "cuda".
    """

    images: int
    precision: str = "bf16"
    clip: float = 1.0
    sharding: str = "auto"
    replicas: int = 1
    compile: bool = False
    attention: str = "auto"
    activation_memory: str = "none"
    activation_budget: float = 0.5
    fp8: bool = False
    routing: Routing = field(default_factory=Routing)
    ema: Averages = field(default_factory=Averages)
    guard: Guard = field(default_factory=Guard)
    log_every_images: int = 500
    checkpoint_every_images: int = 10_000
    keep_checkpoints: int = 2
    keep_every_images: int = 0
    checkpoint_async: bool = True
    ledger: bool = True
    watchdog_seconds: float = 600.0
    timeout_seconds: float = 1200.0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.precision == "fp16":
            raise ConfigError(
                "precision fp16 is not offered",
                where="train.precision",
                why="activations of these transformers pass 65504 and fp16 turns them into NaN",
                do="use train.precision=bf16",
            )
        for name, known in (
            *(("precision", ("fp32", "bf16")), ("device", DEVICES), ("sharding", SHARDINGS)),
            *(("attention", ATTENTIONS), ("activation_memory", ACTIVATIONS)),
        ):
            _one_of(f"train.{name}", getattr(self, name), known)
        self._require("images", self.images > 0, "above 0", "give the length of the run in images")
        self._require("clip", self.clip >= 0, "0 or above", "1.0 is usual, 0 turns clipping off")
        for name in ("log_every_images", "checkpoint_every_images", "keep_every_images"):
            self._require(name, getattr(self, name) >= 0, "0 or above", "0 means only at the end of the run")
        self._require(
            "keep_checkpoints", self.keep_checkpoints >= 1, "1 or above", "a run needs one to be resumed from"
        )
        self._require("replicas", self.replicas >= 1, "1 or above", "under hsdp it is usually the number of nodes")
        self._require("activation_budget", 0 <= self.activation_budget <= 1, "a share", "0.5 is usual")
        self._require("watchdog_seconds", self.watchdog_seconds >= 0, "0 or above", "0 turns it off")
        self._require("timeout_seconds", self.timeout_seconds > 0, "above 0", "1200 is usual")
        for name, on in (("fp8", self.fp8), ("activation_memory=budget", self.activation_memory == "budget")):
            if on and not self.compile:
                raise ConfigError(
                    f"train.{name} needs compiled blocks", where="train.compile", do="set train.compile=true"
                )

    def _require(self, name: str, good: bool, rule: str, do: str) -> None:
        _require(good, f"train.{name}", getattr(self, name), rule, do)

    def require_device(self, *, cuda: bool) -> None:
        """Raises ConfigError when the device that is asked for is not here; `cuda`: whether torch sees one."""
        if self.device == "cuda" and not cuda:
            raise ConfigError(
                "there is no CUDA device for device 'cuda'",
                where="train.device",
                why="on the CPU the run would be many times slower than was meant",
                do="check the driver and that torch was installed with CUDA, or set train.device=auto or cpu",
            )


def _require(good: bool, where: str, value: object, rule: str, do: str) -> None:
    if not good:
        raise ConfigError(f"{where.rsplit('.', 1)[-1]} {value} is not {rule}", where=where, do=do)


def _one_of(where: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        name = where.rsplit(".", 1)[-1]
        raise ConfigError(
            f"unknown {name} '{value}'{did_you_mean(value, known)}", where=where, do=f"use one of {', '.join(known)}"
        )


@dataclass
class Progress:
    """Where the run is. All of it is in every checkpoint."""

    images_seen: int = 0
    step: int = 0
    seconds: float = 0.0
    skipped_steps: int = 0
    rollbacks: int = 0
    passed_over: list[int] = field(default_factory=list)  # steps of the order of data that are left out
    hooks_done: dict[str, int] = field(default_factory=dict)

    def due(self, name: str, every: int) -> bool:
        """Whether it is time for what is done once per `every` images (0: never). When it was last done is a part of the progress,
        so a resumed run does it when an uninterrupted one does."""
        if every <= 0 or self.images_seen // every <= self.hooks_done.get(name, 0) // every:
            return False
        self.hooks_done[name] = self.images_seen
        return True
