"""Transformer blocks compiled one by one, with few graphs. Knows blocks; knows no family, no loop and no data set.

Blocks that are built alike share one graph, whatever their weights, and the graph serves every number of tokens and pictures, so
the number of graphs is the number of kinds of blocks: SD3.5-Medium has three (two attentions, one, and the last), Anima one. A
batch of one picture, a mask over the text, and another dtype each make a graph more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit
from torch._dynamo.utils import counters

from ..core.errors import ConfigError

GRAPHS = 64  # per kind of block; torch's own limit of 8 counts all kinds of one class together and would end a run


class CompiledBlocks:
    """How many graphs there are, and how many came too late."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._start = self._warm = _graphs()

    @property
    def graphs(self) -> int:
        """Compiled in this process since the blocks were given to the compiler."""
        return _graphs() - self._start

    def warmed_up(self) -> None:
        """From here on every graph is a recompilation."""
        self._warm = _graphs()

    @property
    def recompiles(self) -> int:
        """Graphs since `warmed_up`. A good run has none; `TORCH_LOGS=recompiles` says what changed."""
        return _graphs() - self._warm


def compile_blocks(
    backbone: nn.Module,
    *,
    dynamic_tokens: bool = True,
    backend: str | Callable[..., Any] = "inductor",
    mode: str | None = None,
    while_sampling: bool = False,
) -> CompiledBlocks:
    """Compile every block of `backbone.blocks()` by itself, without a break in its graph. Names of weights stay. Call it after
    `keep_activations` and before `fully_shard`; the first batches are slow, while the compiler works.

    Args:
        dynamic_tokens: one graph for all numbers of tokens and pictures; else one for each.
        backend, mode: torch's.
        while_sampling: also where no gradient is asked for. Those are graphs of their own, and pictures drawn now and then in a
            run are not worth the minutes they take.

    Raises (when a block first meets a batch):
        ConfigError: the compiler does not work here; see `explained`.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
    options = _options(dynamic_tokens) if backend == "inductor" and mode is None else None
    blocks: Sequence[nn.Module] = backbone.blocks()  # type: ignore[operator]
    for block in blocks:
        block.compile(fullgraph=True, dynamic=dynamic_tokens, backend=backend, mode=mode, options=options)
        assert block._compiled_call_impl is not None
        block._compiled_call_impl = _entrance(block, block._compiled_call_impl, while_sampling)
    return CompiledBlocks(len(blocks))


def explained(error: BaseException) -> ConfigError | None:
    """What to do about an error of the compiler, also one that came up in a backward pass; None for any other error."""
    if isinstance(error, FailOnRecompileLimitHit):
        return ConfigError(
            f"the compiler made more than {GRAPHS} graphs for one kind of block",
            why="something changes from batch to batch that each graph takes for fixed",
            do="run a few steps with TORCH_LOGS=recompiles to see what, or set train.compile=false",
        )
    if not isinstance(error, BackendCompilerFailed):
        return None
    text = " ".join(str(error).partition("Set TORCHDYNAMO")[0].split())
    said = (
        text if len(text) < 400 else f"{text[:120]} ... {text[-240:]}"
    )  # a C++ compiler says what is wrong at the end
    return ConfigError(
        f"the blocks could not be compiled: {said}",
        where=f"compiler's cache: {cache_folder()}",
        why="a run that was killed while it wrote there leaves half a file behind, which every later run then trips over; or no "
        "C++ compiler (g++), respectively no Triton, is installed",
        do="delete that folder and start again, with TORCHINDUCTOR_CACHE_DIR set to a folder of this run on this machine; "
        "if it stays, set train.compile=false",
    )


def cache_folder() -> Path:
    """Where torch's compiler keeps what it made."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or default_cache_dir())


def _entrance(block: nn.Module, compiled: Callable[..., Any], while_sampling: bool) -> Callable[..., Any]:
    def enter(*args: Any, **kwargs: Any) -> Any:
        if not (while_sampling or torch.is_grad_enabled()):
            return block._call_impl(*args, **kwargs)
        try:
            return compiled(*(_rooted(value) for value in args), **{name: _rooted(v) for name, v in kwargs.items()})
        except (BackendCompilerFailed, FailOnRecompileLimitHit) as error:
            raise explained(error) or error from error

    return enter


def _rooted(value: Any) -> Any:
    """The same numbers as no view of another tensor. A graph holds whether its inputs are views, and what enters the first block
    is one (a linear layer over tokens gives one), so the first block alone would get a graph of its own."""
    if isinstance(value, dict):
        return {name: _rooted(inner) for name, inner in value.items()}
    if isinstance(value, Tensor) and value._is_view():
        return torch.ops.aten._unsafe_view.default(value, value.shape) if value.is_contiguous() else value.contiguous()
    return value


def _options(dynamic_tokens: bool) -> dict[str, Any]:
    """Inductor's pass over reductions in mixed order picks its kernel by the number of tokens, on both sides of 4096 of which
    the buckets of one megapixel lie, and would make one graph for each."""
    from torch._inductor import config

    mixed = dynamic_tokens and hasattr(config.triton, "mix_order_reduction")
    return {"triton.mix_order_reduction": False} if mixed else {}


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])
