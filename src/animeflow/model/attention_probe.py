"""Measures attention kernels on a GPU: are they there, are they right, how long do they take. Decides nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import attention
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from .attention_switch import BACKENDS, PACKAGES, implementation, version
from .work import AttentionCall

ROUNDS = 10
TAIL = 64  # tokens at the end, looked at by themselves: one lost key in thousands hardly shows in the whole
PROBES = 2  # rows: a kernel that reads beyond the end of a row reads the next one


class CudaProber:
    """One GPU, one dtype."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.capability = torch.cuda.get_device_capability(device)
        self.cudnn, self.shadowed = loaded_cudnn()
        self._failed: dict[str, str] = {}

    def missing(self, name: str) -> str:
        if name == "cudnn" and self.cudnn is None:
            return self.shadowed or "torch was built without cuDNN"
        if name not in PACKAGES:
            return ""
        if name not in self._failed:
            self._failed[name] = _package_missing(name)
        return self._failed[name]

    def error(self, name: str, call: AttentionCall, *, masked: bool) -> float:
        tensors = self._tensors(call, PROBES)
        mask = _mask(PROBES, call.keys, self.device) if masked else None
        found = self._passes(name, tensors, mask)
        # The first head of the first row, and the last of the last: what lies between is the same code.
        worst = 0.0
        for row, head in ((0, 0), (PROBES - 1, call.heads - 1)):
            one = [tensor[row : row + 1, head : head + 1].float() for tensor in tensors]
            expected = self._passes("math", one, mask[row : row + 1] if mask is not None else None)
            for ours, theirs in zip(found, expected, strict=True):
                part = ours[row : row + 1, head : head + 1].float()
                worst = max(worst, _difference(part, theirs), _difference(part[:, :, -TAIL:], theirs[:, :, -TAIL:]))
        return worst

    def milliseconds(self, name: str, call: AttentionCall, *, batch: int) -> float:
        tensors = self._tensors(call, batch)
        times = []
        for number in range(ROUNDS + 3):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record(torch.cuda.current_stream(self.device))
            self._passes(name, tensors, None)
            end.record(torch.cuda.current_stream(self.device))
            torch.cuda.synchronize(self.device)
            if number >= 3:
                times.append(start.elapsed_time(end))
        return statistics.median(times)

    def _tensors(self, call: AttentionCall, batch: int) -> list[Tensor]:
        """Queries, keys, values and the gradient of the result, laid out as the blocks have them: heads inside tokens."""
        draw = torch.Generator(self.device).manual_seed(0)
        lengths = (call.queries, call.keys, call.keys, call.queries)
        sizes = [(batch, length, call.heads, call.head_dim) for length in lengths]
        return [torch.randn(size, generator=draw, device=self.device).to(self.dtype).transpose(1, 2) for size in sizes]

    def _passes(self, name: str, tensors: list[Tensor], mask: Tensor | None) -> list[Tensor]:
        """The result and the gradients of queries, keys and values."""
        q, k, v = (tensor.detach().requires_grad_(True) for tensor in tensors[:3])
        with _only(name):
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            return [y.detach(), *torch.autograd.grad(y, (q, k, v), tensors[3])]


def loaded_cudnn() -> tuple[int | None, str]:
    """Version of the cuDNN that is loaded, and how it differs from the one that came with torch."""
    try:
        number = torch.backends.cudnn.version()
    except RuntimeError as error:  # torch refuses one that is older than what it was built with
        return None, f"the cuDNN on the library path does not fit this torch: {' '.join(str(error).split())[:200]}"
    wheel = next((found for name in ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12") if (found := _installed(name))), None)
    if number is None or wheel is None or wheel.startswith(version(number)):
        return number, ""
    return number, f"{version(number)} on the library path hides the {wheel} that came with torch"


def _difference(found: Tensor, expected: Tensor) -> float:
    """Relative, infinite where something is no number."""
    share = float((found - expected).norm() / expected.norm().clamp(min=1e-6))
    return share if share == share else float("inf")


@contextmanager
def _only(name: str) -> Iterator[None]:
    backend: SDPBackend = BACKENDS[name]
    with implementation(name), sdpa_kernel(backend):
        yield


def _mask(batch: int, keys: int, device: torch.device) -> Tensor:
    """Bool `[B, 1, 1, keys]`; each row ends a little earlier than the one before."""
    lengths = torch.tensor([keys - 37 * row for row in range(batch)], device=device).clamp(min=1)
    return (torch.arange(keys, device=device)[None] < lengths[:, None])[:, None, None, :]


def _package_missing(name: str) -> str:
    if not hasattr(attention, "activate_flash_attention_impl"):
        return f"torch {torch.__version__} cannot take it in"
    try:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            return f"package {PACKAGES[name]} is not installed"
        with implementation(name):
            return ""
    except Exception as error:
        return f"package {PACKAGES[name]} does not load: {' '.join(str(error).split())[:160]}"


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
