"""The GPUs: memory, generation, bf16, and the attention kernel that a run would use. `judge` decides from facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..jobs import family_without_files
from .finding import Finding, error, ok, warning
from .presets import presets

SMALL = 11.0  # GiB: below it the frozen weights of the released models have to be kept in 8 or 4 bits
BUSY = 0.8  # share of the memory that should be free


@dataclass(frozen=True)
class Card:
    """One GPU as torch sees it. `known`: this torch has kernels for its generation."""

    index: int
    name: str
    capability: tuple[int, int]
    total_gib: float
    free_gib: float
    known: bool = True

    def __str__(self) -> str:
        major, minor = self.capability
        return f"{self.name}, {self.total_gib:.1f} GiB ({self.free_gib:.1f} free), compute capability {major}.{minor}"


def has_kernels(capability: tuple[int, int], arches: Sequence[str]) -> bool:
    """Whether one of torch's `arches` (`sm_90`, `compute_90`) runs on the GPU: binaries within a generation, PTX on all newer."""
    for arch in arches:
        kind, _, number = arch.partition("_")
        digits = number.rstrip("af")  # sm_90a: for this very generation
        if not digits.isdecimal():
            continue
        major, minor = int(digits[:-1]), int(digits[-1])
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return True
        if kind == "compute" and (major, minor) <= capability:
            return True
    return not arches


def judge(cards: Sequence[Card], *, torch_version: str = "") -> list[Finding]:
    """Memory, generation and bf16 of each."""
    if not cards:
        return [
            warning(
                "gpu", "no GPU that torch can use: the CPU trains", do="animeflow lora FOLDER --tiny",
                why="small models train here (demo, --tiny); the released ones need an NVIDIA GPU",
            )
        ]  # fmt: skip
    found: list[Finding] = []
    for card in cards:
        name = f"gpu {card.index}"
        if not card.known:
            found.append(
                error(
                    name, f"{card}: torch {torch_version} has no kernels for it", do="pip install --upgrade torch",
                    why="the first step would fail with 'no kernel image is available'",
                )
            )  # fmt: skip
        elif card.total_gib < SMALL:
            found.append(
                warning(
                    name, str(card), do="use learn=lora learn.base_dtype=nf4, and look at animeflow plan",
                    why="the released models fit only with their frozen weights in few bits",
                )
            )  # fmt: skip
        elif card.free_gib < BUSY * card.total_gib:
            found.append(
                warning(name, str(card), why="another program holds the rest", do="nvidia-smi, and close that program")
            )
        else:
            found.append(ok(name, str(card)))
        found.append(_bf16(card))
    return found


def _bf16(card: Card) -> Finding:
    name = f"bf16 on gpu {card.index}"
    if card.capability >= (8, 0):
        return ok(name, "in hardware")
    return warning(
        name, "not in hardware (that begins with compute capability 8.0)", do="use train.precision=fp32 and small batches",
        why="bf16 is computed in software: slowly",
    )  # fmt: skip


def look() -> list[Finding]:
    """The GPUs of this machine."""
    import torch

    cards = []
    if torch.cuda.is_available():
        arches = torch.cuda.get_arch_list()
        for index in range(torch.cuda.device_count()):
            told = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            capability = (told.major, told.minor)
            known = has_kernels(capability, arches)
            cards.append(Card(index, told.name, capability, total / 2**30, free / 2**30, known))
    return judge(cards, torch_version=torch.__version__)


def attention(config: Mapping[str, Any]) -> list[Finding]:
    """The kernel that a run would use at one megapixel, after it was tried: what torch claims is not enough."""
    import torch

    from ...model.attention_kernel import choose

    fam = family_without_files(_large(config))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    calls = fam.work(height=1024, width=1024, text_tokens=fam.text_tokens).attention
    kernel = choose(config["train"]["attention"], device=device, dtype=torch.bfloat16, calls=calls, batch=1)
    tried = [str(trial) for trial in kernel.trials]
    return [ok("attention", f"{kernel.name}: {kernel.reason}" + (f"; {'; '.join(tried)}" if tried else ""))]


def _large(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a model that is worth a GPU: the chosen one, else the first of configs/ that has released weights."""
    if config["model"].get("weights") is not None:
        return config
    family = config["model"]["family"]
    fitting = (node for node in presets().values() if node["family"] == family and node.get("weights") is not None)
    return {**config, "model": next(fitting, config["model"])}
