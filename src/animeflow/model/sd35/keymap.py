"""Two sets of names for one network: diffusers' SD3 transformer and the original single file. Knows names and rows; knows no file.

A table of `Pair`s is built from the keys that are there (depth, dual attention, query and key norms), and both directions
read the same table, so they are inverse by construction. Nothing is guessed: a key too many or too few is a `DataError`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import Tensor

from .. import names
from ..names import BOTH, Pair, both, check_names, diffusers_names, num_blocks, original_names

DIFFUSION = "model.diffusion_model."  # the one prefix that ComfyUI, diffusers and kohya's scripts all read
VAE = "first_stage_model."
TEXT_ENCODERS = {  # name of the encoder -> its prefix in an all-in-one file
    "clip_l": "text_encoders.clip_l.transformer.",
    "clip_g": "text_encoders.clip_g.transformer.",
    "t5xxl": "text_encoders.t5xxl.transformer.",
}
PREFIXES = (DIFFUSION, VAE, *TEXT_ENCODERS.values())
OURS, THEIRS = "diffusers' SD3 transformer", "an original SD3.5 file"


def to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of `SD3Transformer2DModel` -> names of the original file, without a prefix.

    Raises:
        DataError: a key is unknown or missing, or tensors that belong in one do not fit together.
    """
    return original_names(state, _pairs_of_diffusers(state), what=OURS)


def check_diffusers_names(state: Iterable[str]) -> None:
    """Raise `DataError` unless these are all the names of a `SD3Transformer2DModel`."""
    names = list(state)
    check_names(names, [name for pair in _pairs_of_diffusers(names) for name in pair.diffusers], what=OURS)


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the original file, without a prefix (see `parts`) -> names of `SD3Transformer2DModel`.

    Raises:
        DataError: a key is unknown or missing, or fused rows do not divide.
    """
    depth, dual, norms = _structure(state, r"joint_blocks\.(\d+)\.", ".attn2.", ".ln_q.", THEIRS)
    return diffusers_names(state, transformer_pairs(depth, dual=dual, norms=norms), what=THEIRS)


def parts(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """An all-in-one file taken apart: prefix -> state without it. A file without any known prefix is diffusion weights alone.

    Raises:
        DataError: some keys have a known prefix and others have none.
    """
    return names.parts(state, PREFIXES, alone=DIFFUSION)


def transformer_pairs(depth: int, *, dual: Iterable[int] = (), norms: bool = True) -> list[Pair]:
    """The table of an MMDiT of `depth` blocks; `dual` are the blocks with a second attention, `norms` tells of RMS QK-norm."""
    pairs = [Pair("pos_embed", ("pos_embed.pos_embed",))]
    pairs += both("x_embedder.proj", "pos_embed.proj")
    for ours, theirs in (("t_embedder", "timestep_embedder"), ("y_embedder", "text_embedder")):
        pairs += both(f"{ours}.mlp.0", f"time_text_embed.{theirs}.linear_1")
        pairs += both(f"{ours}.mlp.2", f"time_text_embed.{theirs}.linear_2")
    pairs += both("context_embedder", "context_embedder")
    dual = frozenset(dual)
    for index in range(depth):
        pairs += _block(index, last=index == depth - 1, dual=index in dual, norms=norms)
    pairs += both("final_layer.adaLN_modulation.1", "norm_out.linear", form="swapped")
    return pairs + both("final_layer.linear", "proj_out")


def _block(index: int, *, last: bool, dual: bool, norms: bool) -> list[Pair]:
    """One joint block. The last block's text side only feeds keys and values: no output, no MLP, and a swapped modulation."""
    x, c, theirs = f"joint_blocks.{index}.x_block", f"joint_blocks.{index}.context_block", f"transformer_blocks.{index}"
    pairs = both(f"{x}.adaLN_modulation.1", f"{theirs}.norm1.linear")
    pairs += both(f"{c}.adaLN_modulation.1", f"{theirs}.norm1_context.linear", form="swapped" if last else "same")
    pairs += _attention(f"{x}.attn", f"{theirs}.attn", ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"), norms)
    added = ("add_q_proj", "add_k_proj", "add_v_proj")
    pairs += _attention(f"{c}.attn", f"{theirs}.attn", added, ("norm_added_q", "norm_added_k"), norms)
    pairs += both(f"{x}.attn.proj", f"{theirs}.attn.to_out.0")
    if dual:
        pairs += _attention(f"{x}.attn2", f"{theirs}.attn2", ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"), norms)
        pairs += both(f"{x}.attn2.proj", f"{theirs}.attn2.to_out.0")
    pairs += both(f"{x}.mlp.fc1", f"{theirs}.ff.net.0.proj") + both(f"{x}.mlp.fc2", f"{theirs}.ff.net.2")
    if not last:
        pairs += both(f"{c}.attn.proj", f"{theirs}.attn.to_add_out")
        pairs += both(f"{c}.mlp.fc1", f"{theirs}.ff_context.net.0.proj")
        pairs += both(f"{c}.mlp.fc2", f"{theirs}.ff_context.net.2")
    return pairs


def _attention(ours: str, theirs: str, qkv: Sequence[str], norms: Sequence[str], with_norms: bool) -> list[Pair]:
    pairs = [Pair(f"{ours}.qkv{end}", tuple(f"{theirs}.{name}{end}" for name in qkv), "stacked") for end in BOTH]
    if with_norms:
        pairs += [
            Pair(f"{ours}.ln_{axis}.weight", (f"{theirs}.{name}.weight",))
            for axis, name in zip("qk", norms, strict=True)
        ]
    return pairs


def _pairs_of_diffusers(state: Iterable[str]) -> list[Pair]:
    depth, dual, norms = _structure(list(state), r"transformer_blocks\.(\d+)\.", ".attn2.", ".norm_q.", OURS)
    return transformer_pairs(depth, dual=dual, norms=norms)


def _structure(
    state: Collection[str], block: str, second: str, norm: str, what: str
) -> tuple[int, frozenset[int], bool]:
    """(depth, blocks with a second attention, whether queries and keys are normed), read from the keys."""
    depth = num_blocks(state, block, what=what)
    found = {name: int(match[1]) for name in state if (match := re.match(block, name))}
    dual = frozenset(index for name, index in found.items() if second in name)
    return depth, dual, any(norm in name for name in found)
