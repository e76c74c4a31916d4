"""Which kernel computes attention: the fastest that is right at the lengths of the run, named. Knows shapes; knows no network.

`choose` decides, `attention_probe` measures, and `Kernel.applied` tells torch. The decision is separate from the measurement so
that it can be tried without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from ..core.errors import ConfigError, did_you_mean
from .attention_switch import NAMES, Kernel, Trial, version
from .work import AttentionCall

MODERN = ("cudnn", "fa3", "fa4")  # made for Hopper and newer; what else there is takes about half as long again there
MASKED = ("cudnn", "efficient", "math")  # kernels that can leave out tokens; the flash kernels cannot
FIXED_CUDNN = 91501  # 9.15.1: older ones are wrong or missing where a length is no multiple of 128 (pytorch#169849)
# Relative error (norms) of attention in bf16 and of its gradients against float32; rounding alone gives 0.002 to 0.004.
TOLERANCE = 0.02
# For what the chosen kernel cannot: a codec's wide heads, float32, grouped heads.
LAST_RESORTS = ("efficient", "flash", "math")
CPU = "torch CPU"


class Prober(Protocol):
    """What can be found out about the machine. `attention_probe.CudaProber` asks a GPU."""

    capability: tuple[int, int]  # of the GPU: (9, 0) is Hopper
    cudnn: int | None  # version that is loaded, as a number, e.g. 91501
    shadowed: str  # how the loaded cuDNN differs from the one that came with torch; "" when it does not

    def missing(self, name: str) -> str:
        """Why the kernel is not there; "" when it is."""

    def error(self, name: str, call: AttentionCall, *, masked: bool) -> float:
        """Largest relative error of the result and of the gradients against float32. Raises RuntimeError if the kernel refuses."""

    def milliseconds(self, name: str, call: AttentionCall, *, batch: int) -> float:
        """Of forward and backward pass of one layer."""


def choose(
    wish: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    calls: Sequence[AttentionCall],
    batch: int,
    also: Sequence[AttentionCall] = (),
    prober: Prober | None = None,
) -> Kernel:
    """The kernel for a run.

    Args:
        wish: "auto", or a name.
        dtype: of queries, keys and values: under autocast, that of autocast.
        calls: the run's largest shape, which is timed.
        batch: pictures per call.
        also: calls of other buckets, which must be right too.
        prober: who measures; a GPU is asked when it is left out.

    Raises:
        ConfigError: an unknown name, a kernel that is not there or not right, or a GPU of the kind that has fast kernels and
            none of them works.
    """
    if wish not in ("auto", *NAMES):
        raise ConfigError(
            f"unknown attention kernel '{wish}'{did_you_mean(wish, NAMES)}",
            where="train.attention",
            do=f"choose one of: auto, {', '.join(NAMES)}",
        )
    if device.type != "cuda":
        return _elsewhere(wish, device)
    if prober is None:
        from .attention_probe import CudaProber

        prober = CudaProber(device, dtype)
    trials = tuple(_trial(name, prober, calls, batch, also) for name in (NAMES if wish == "auto" else (wish,)))
    if wish == "auto":
        chosen = _fastest(trials, prober, dtype)
        reason = f"it is the fastest that is right here ({_speed(chosen)})"
    else:
        chosen = trials[0]
        if not chosen.right:
            others = [_trial(name, prober, calls, batch, also) for name in NAMES if name != wish]
            raise _unusable(chosen, [other.name for other in others if other.right])
        reason = f"it was asked for ({_speed(chosen)})"
    order = ("math",) if chosen.name == "math" else tuple(dict.fromkeys((chosen.name, *LAST_RESORTS)))
    masked = next(name for name in order if name in MASKED and _takes_masks(name, prober, [*calls, *also]))
    return Kernel(chosen.name, masked, reason, trials, version(prober.cudnn), order)


def _elsewhere(wish: str, device: torch.device) -> Kernel:
    if wish == "auto":
        return Kernel(CPU, CPU, f"this is a {device.type}, where torch has one fused kernel and picks it itself")
    if wish == "math":
        return Kernel("math", "math", "it was asked for", order=("math",))
    raise ConfigError(
        f"attention kernel '{wish}' needs a CUDA device, and this is a {device.type}",
        where="train.attention",
        do="choose one of: auto, math",
    )


def _trial(
    name: str, prober: Prober, calls: Sequence[AttentionCall], batch: int, also: Sequence[AttentionCall]
) -> Trial:
    """Right first, then fast: a kernel that is not there, too old, or wrong at one of the lengths is not timed."""
    against = prober.missing(name)
    odd = sorted({length for call in (*calls, *also) for length in (call.queries, call.keys) if length % 128})
    if not against and name == "cudnn" and (prober.cudnn or 0) < FIXED_CUDNN and odd:
        shadow = f"; {prober.shadowed}" if prober.shadowed else ""
        against = f"cuDNN {version(prober.cudnn)} is older than {version(FIXED_CUDNN)}, and {odd[-1]} is no multiple of 128{shadow}"
    if against or name == "math":  # math is what the others are held against, and at full size needs much memory
        return Trial(name, against=against)
    worst = 0.0
    for call in (*calls, *also):
        for masked in (False, True) if name in MASKED else (False,):
            try:
                error = prober.error(name, call, masked=masked)
            except RuntimeError as refusal:
                if masked:  # torch then gives the call to the next in the order
                    continue
                return Trial(name, against=f"refuses {_shape(call)}: {' '.join(str(refusal).split())[:160]}")
            if not error <= TOLERANCE:  # also when it is no number
                return Trial(name, against=f"wrong by {error:.1%} at {_shape(call)}{' with a mask' if masked else ''}")
            worst = max(worst, error)
    total = sum(prober.milliseconds(name, call, batch=batch) * call.layers for call in calls)
    return Trial(name, total, 3 * batch * sum(call.flops for call in calls) / total / 1e9, worst)


def _unusable(trial: Trial, there: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"attention kernel '{trial.name}' cannot be used: {trial.against}",
        where="train.attention",
        do=f"choose one of: auto, {', '.join(there)}",
    )


def _fastest(trials: Sequence[Trial], prober: Prober, dtype: torch.dtype) -> Trial:
    timed = sorted((trial for trial in trials if trial.milliseconds is not None), key=lambda t: t.milliseconds or 0)
    modern = any(trial.right for trial in trials if trial.name in MODERN)
    hopper = prober.capability[0] in (9, 10) and dtype in (torch.bfloat16, torch.float16)
    if timed and (modern or not hopper):
        return timed[0]
    why = "; ".join(str(trial) for trial in trials if trial.name in MODERN)
    slow = f"the best that is left is {timed[0]}" if timed else "nothing is left but plain products"
    raise ConfigError(
        f"no fast attention kernel works on this GPU; {slow}",
        where="train.attention",
        why=f"{why}. A run would be slower by a third or more, and nothing would say so",
        do="take other cuDNN libraries off LD_LIBRARY_PATH (the one that torch brings is found without it), or install a "
        f"newer torch; to train slowly all the same, name the kernel: train.attention={timed[0].name if timed else 'math'}",
    )


def _takes_masks(name: str, prober: Prober, calls: Sequence[AttentionCall]) -> bool:
    """Whether torch would give calls with a mask to this kernel; that the answer is right has been tried before."""
    if name == "math":
        return True
    try:
        return not prober.missing(name) and all(prober.error(name, call, masked=True) <= TOLERANCE for call in calls)
    except RuntimeError:
        return False


def _speed(trial: Trial) -> str:
    return str(trial).partition(": ")[2]


def _shape(call: AttentionCall) -> str:
    return f"{call.queries}x{call.keys} tokens, {call.heads} heads of {call.head_dim}"
