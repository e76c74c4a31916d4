"""States to save, and what a checkpoint has to say of itself. For the tests of checkpoints and the programs that they start."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from animeflow.train import checkpoint


def every_kind() -> dict[str, dict[str, Tensor]]:
    """Every type, no dimension, no element, no number, views that overlap, names with dots and slashes, and an empty group."""
    floats, halves = torch.tensor([float("nan"), -0.0, float("inf"), 5e-324], dtype=torch.float64), torch.randn(3, 5)
    shared = torch.arange(12.0).reshape(3, 4)
    return {
        "learner": {"a/b.c": torch.randn(4, 3), "bf16": halves.bfloat16(), "fp16": halves.half(), "fp64": floats},
        "kinds": {
            "step": torch.tensor(7.0), "count": torch.tensor(2**60), "uint8": torch.arange(256).to(torch.uint8),
            "int8": torch.arange(-3, 3).to(torch.int8), "int16": torch.arange(3).short(), "int32": torch.arange(3).int(),
            "int64": torch.arange(5), "bool": torch.tensor([True, False]), "fp8": torch.randn(6).to(torch.float8_e4m3fn),
            "none": torch.zeros(0, 3),
        },
        "views": {"whole": shared, "turned": shared.T, "part": shared[1:, 2:], "wide": shared[:1, :1].expand(2, 5)},
        "nothing": {},
    }  # fmt: skip


def bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return tensor.dtype, tensor.shape, flat.view(torch.uint8).numpy().tobytes()


def same_bits(one: dict[str, dict[str, Tensor]], other: dict[str, dict[str, Tensor]]) -> bool:
    return {g: {n: bits(t) for n, t in v.items()} for g, v in one.items()} == {
        g: {n: bits(t) for n, t in v.items()} for g, v in other.items()
    }


def numbered(images: int, *, size: int = 64) -> tuple[dict[str, dict[str, Tensor]], dict[str, int]]:
    """A state that can be told from all others, in every tensor and in the JSON."""
    generator = torch.Generator().manual_seed(images)
    tensors = {
        "learner": {"w": torch.randn(size, 4, generator=generator), "b": torch.randn(4, generator=generator)},
        "optimizer": {"w/step": torch.tensor(float(images)), "w/exp_avg": torch.randn(size, 4, generator=generator)},
    }
    return tensors, {"images": images}


def sound(root: Path, *, size: int = 64) -> list[int]:
    """The images of all checkpoints, each of which must verify and hold the state of just these images."""
    checkpoint.newest(root)  # puts right what a kill left
    for folder in checkpoint.list_folders(root):
        assert checkpoint.verify(folder) is None, f"{folder}: {checkpoint.verify(folder)}"
        tensors, state = checkpoint.load(folder)
        expected, said = numbered(int(folder.name), size=size)
        assert state == said and same_bits(tensors, expected), folder
    hidden = [path.name for path in root.iterdir() if path.name.startswith(".")]
    assert not hidden, f"left behind: {hidden}"
    return [int(folder.name) for folder in checkpoint.list_folders(root)]
