"""One attention kernel of torch's: its name, what it showed, and how torch is told to use it. Measures and decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch.nn import attention
from torch.nn.attention import SDPBackend, sdpa_kernel

NAMES = ("cudnn", "fa3", "fa4", "flash", "efficient", "math")
PACKAGES = {"fa3": "flash_attn_interface", "fa4": "flash_attn.cute"}  # which bring the kernels that torch does not
BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "fa3": SDPBackend.FLASH_ATTENTION,
    "fa4": SDPBackend.FLASH_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


@dataclass(frozen=True)
class Trial:
    """What came of one kernel: its speed, or why it is not taken."""

    name: str
    milliseconds: float | None = None  # of all layers of the run's largest shape, forward and backward
    tflops: float | None = None  # by the forward pass's products counted three times, as MFU does
    error: float | None = None
    against: str = ""  # why it cannot be used

    @property
    def right(self) -> bool:
        return not self.against

    def __str__(self) -> str:
        if not self.right:
            return f"{self.name}: {self.against}"
        speed = (
            f"{self.milliseconds:.2f} ms, {self.tflops:.0f} TFLOP/s" if self.milliseconds is not None else "not timed"
        )
        return f"{self.name}: {speed}"


@dataclass(frozen=True)
class Kernel:
    """The kernel of a run.

    Attributes:
        name: of the kernel; "torch CPU" on a CPU.
        masked: of the kernel that takes the calls with a mask, which the flash kernels cannot.
        reason: one sentence for the log.
        trials: everything that was tried.
        cudnn: version that is loaded, e.g. "9.15.1".
        order: the kernels that torch may take, first to last; empty leaves torch alone.
    """

    name: str
    masked: str
    reason: str
    trials: tuple[Trial, ...] = ()
    cudnn: str = ""
    order: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For the log."""
        head = f"attention: {self.name}, because {self.reason}"
        if not self.order:
            return [head]
        order = (
            f"attention with a mask: {self.masked}; where neither can: {', '.join(self.order[1:]) or 'nothing else'}"
        )
        versions = [f"cuDNN {self.cudnn}"] if self.cudnn else []
        return [head, order, *versions, *(str(trial) for trial in self.trials)]

    def record(self) -> dict[str, Any]:
        """For reports: plain values."""
        trials = {
            trial.name: {"milliseconds": trial.milliseconds, "tflops": trial.tflops, "error": trial.error}
            if trial.right
            else {"against": trial.against}
            for trial in self.trials
        }
        return {
            "kernel": self.name,
            "masked": self.masked,
            "cudnn": self.cudnn,
            "reason": self.reason,
            "trials": trials,
        }

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Torch's attention uses this kernel within, and the next in `order` where it cannot. Put it around compilation, warm-up
        and the whole loop: a compiled block keeps the kernel that it was traced with, and what is computed again in the backward
        pass asks anew. `name` and `masked` serve the calls of the run; the rest of `order` serves what else attends meanwhile."""
        if not self.order:
            yield
            return
        with implementation(self.name), sdpa_kernel([BACKENDS[name] for name in self.order], set_priority=True):
            yield


def version(number: int | None) -> str:
    """`91501` -> `9.15.1`."""
    return "" if number is None else f"{number // 10000}.{number // 100 % 100}.{number % 100}"


@contextmanager
def implementation(name: str) -> Iterator[None]:
    """Within, "fa3" or "fa4" stands in for torch's own flash attention; other names change nothing."""
    if name not in PACKAGES:
        yield
        return
    attention.activate_flash_attention_impl(name.upper())
    try:
        yield
    finally:
        if hasattr(attention, "restore_flash_attention_impl"):  # older torch cannot take it out again
            attention.restore_flash_attention_impl()
