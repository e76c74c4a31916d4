"""Two sets of names for one network: diffusers' SD3 transformer and the original single file. Knows names and rows; knows no file.

A table of `Pair`s is built from the keys that are there (depth, dual attention, query and key norms), and both directions
read the same table, so they are inverse by construction. Nothing is guessed: a key too many or too few is a `DataError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.errors import DataError, did_you_mean

DIFFUSION = "model.diffusion_model."  # the one prefix that ComfyUI, diffusers and kohya's scripts all read
VAE = "first_stage_model."
TEXT_ENCODERS = {  # name of the encoder -> its prefix in an all-in-one file
    "clip_l": "text_encoders.clip_l.transformer.",
    "clip_g": "text_encoders.clip_g.transformer.",
    "t5xxl": "text_encoders.t5xxl.transformer.",
}
PREFIXES = (DIFFUSION, VAE, *TEXT_ENCODERS.values())
BOTH = (".weight", ".bias")


@dataclass(frozen=True)
class Pair:
    """One tensor of the original file and the diffusers tensors it holds.

    Attributes:
        form: `same`; `stacked`: the rows of all diffusers tensors one below the other; `swapped`: the two halves of the rows
            change places (the original has shift, scale; diffusers' continuous adaLN has scale, shift); `conv1x1`: `[o, i]` there,
            `[o, i, 1, 1]` in the original.
    """

    original: str
    diffusers: tuple[str, ...]
    form: str = "same"


def to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of `SD3Transformer2DModel` -> names of the original file, without a prefix.

    Raises:
        DataError: a key is unknown or missing, or tensors that belong in one do not fit together.
    """
    depth, dual, norms = _structure(
        state, r"transformer_blocks\.(\d+)\.", ".attn2.", ".norm_q.", "diffusers' SD3 transformer"
    )
    return original_names(state, transformer_pairs(depth, dual=dual, norms=norms), what="diffusers' SD3 transformer")


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the original file, without a prefix (see `parts`) -> names of `SD3Transformer2DModel`.

    Raises:
        DataError: a key is unknown or missing, or fused rows do not divide.
    """
    depth, dual, norms = _structure(state, r"joint_blocks\.(\d+)\.", ".attn2.", ".ln_q.", "an original SD3.5 file")
    return diffusers_names(state, transformer_pairs(depth, dual=dual, norms=norms), what="an original SD3.5 file")


def parts(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """An all-in-one file taken apart: prefix -> state without it. A file without any known prefix is diffusion weights alone.

    Raises:
        DataError: some keys have a known prefix and others have none.
    """
    found: dict[str, dict[str, Tensor]] = {}
    bare: list[str] = []
    for name, tensor in state.items():
        prefix = next((known for known in PREFIXES if name.startswith(known)), None)
        if prefix is None:
            bare.append(name)
        else:
            found.setdefault(prefix, {})[name.removeprefix(prefix)] = tensor
    if not found:
        return {DIFFUSION: dict(state)}
    if bare:
        raise DataError(
            f"{len(bare)} keys belong to no known part: {_some(bare)}", do=f"known prefixes: {', '.join(PREFIXES)}"
        )
    return found


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def transformer_pairs(depth: int, *, dual: Iterable[int] = (), norms: bool = True) -> list[Pair]:
    """The table of an MMDiT of `depth` blocks; `dual` are the blocks with a second attention, `norms` tells of RMS QK-norm."""
    pairs = [Pair("pos_embed", ("pos_embed.pos_embed",))]
    pairs += _linears("x_embedder.proj", "pos_embed.proj")
    for ours, theirs in (("t_embedder", "timestep_embedder"), ("y_embedder", "text_embedder")):
        pairs += _linears(f"{ours}.mlp.0", f"time_text_embed.{theirs}.linear_1")
        pairs += _linears(f"{ours}.mlp.2", f"time_text_embed.{theirs}.linear_2")
    pairs += _linears("context_embedder", "context_embedder")
    dual = frozenset(dual)
    for index in range(depth):
        pairs += _block(index, last=index == depth - 1, dual=index in dual, norms=norms)
    pairs += _linears("final_layer.adaLN_modulation.1", "norm_out.linear", form="swapped")
    return pairs + _linears("final_layer.linear", "proj_out")


def _block(index: int, *, last: bool, dual: bool, norms: bool) -> list[Pair]:
    """One joint block. The last block's text side only feeds keys and values: no output, no MLP, and a swapped modulation."""
    x, c, theirs = f"joint_blocks.{index}.x_block", f"joint_blocks.{index}.context_block", f"transformer_blocks.{index}"
    pairs = _linears(f"{x}.adaLN_modulation.1", f"{theirs}.norm1.linear")
    pairs += _linears(f"{c}.adaLN_modulation.1", f"{theirs}.norm1_context.linear", form="swapped" if last else "same")
    pairs += _attention(f"{x}.attn", f"{theirs}.attn", ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"), norms)
    added = ("add_q_proj", "add_k_proj", "add_v_proj")
    pairs += _attention(f"{c}.attn", f"{theirs}.attn", added, ("norm_added_q", "norm_added_k"), norms)
    pairs += _linears(f"{x}.attn.proj", f"{theirs}.attn.to_out.0")
    if dual:
        pairs += _attention(f"{x}.attn2", f"{theirs}.attn2", ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"), norms)
        pairs += _linears(f"{x}.attn2.proj", f"{theirs}.attn2.to_out.0")
    pairs += _linears(f"{x}.mlp.fc1", f"{theirs}.ff.net.0.proj") + _linears(f"{x}.mlp.fc2", f"{theirs}.ff.net.2")
    if not last:
        pairs += _linears(f"{c}.attn.proj", f"{theirs}.attn.to_add_out")
        pairs += _linears(f"{c}.mlp.fc1", f"{theirs}.ff_context.net.0.proj")
        pairs += _linears(f"{c}.mlp.fc2", f"{theirs}.ff_context.net.2")
    return pairs


def _attention(ours: str, theirs: str, qkv: Sequence[str], norms: Sequence[str], with_norms: bool) -> list[Pair]:
    pairs = [Pair(f"{ours}.qkv{end}", tuple(f"{theirs}.{name}{end}" for name in qkv), "stacked") for end in BOTH]
    if with_norms:
        pairs += [
            Pair(f"{ours}.ln_{axis}.weight", (f"{theirs}.{name}.weight",))
            for axis, name in zip("qk", norms, strict=True)
        ]
    return pairs


def _linears(ours: str, theirs: str, *, form: str = "same") -> list[Pair]:
    return [Pair(ours + end, (theirs + end,), form) for end in BOTH]


def original_names(state: Mapping[str, Tensor], pairs: Sequence[Pair], *, what: str) -> dict[str, Tensor]:
    """`state` under diffusers names -> under original names, by the table."""
    check_names(state, [name for pair in pairs for name in pair.diffusers], what=what)
    return {pair.original: _join(pair, [state[name] for name in pair.diffusers]) for pair in pairs}


def diffusers_names(state: Mapping[str, Tensor], pairs: Sequence[Pair], *, what: str) -> dict[str, Tensor]:
    """`state` under original names -> under diffusers names, by the table."""
    check_names(state, [pair.original for pair in pairs], what=what)
    return {
        name: tensor
        for pair in pairs
        for name, tensor in zip(pair.diffusers, _split(pair, state[pair.original]), strict=True)
    }


def check_names(state: Iterable[str], expected: Iterable[str], *, what: str) -> None:
    """Raise `DataError` unless both hold the same names."""
    have, want = set(state), set(expected)
    missing, unknown = sorted(want - have), sorted(have - want)
    if not missing and not unknown:
        return
    said = [f"{len(missing)} missing: {_some(missing)}"] if missing else []
    hints = [f"'{name}'{did_you_mean(name, missing or want)}" for name in unknown]
    said += [f"{len(unknown)} unknown: {_some(hints, quoted=True)}"] if unknown else []
    raise DataError(
        f"the keys are not those of {what}: {'; '.join(said)}",
        why="a network loaded from a part of its weights runs and draws noise",
        do="check that the file is whole and of this family",
    )


def _join(pair: Pair, tensors: Sequence[Tensor]) -> Tensor:
    if pair.form == "stacked":
        if len({(tensor.shape, tensor.dtype) for tensor in tensors}) > 1:
            facts = [f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in tensors]
            raise DataError(f"{', '.join(pair.diffusers)} differ in shape or dtype: {facts}", where=pair.original)
        return torch.cat(list(tensors))
    return _swap(pair, tensors[0]) if pair.form == "swapped" else _reshape(pair, tensors[0], to_conv=True)


def _split(pair: Pair, tensor: Tensor) -> list[Tensor]:
    if pair.form == "stacked":
        if tensor.shape[0] % len(pair.diffusers):
            raise DataError(
                f"'{pair.original}' has {tensor.shape[0]} rows, which do not divide into {len(pair.diffusers)}"
            )
        return [part.clone() for part in tensor.chunk(len(pair.diffusers))]
    return [_swap(pair, tensor) if pair.form == "swapped" else _reshape(pair, tensor, to_conv=False)]


def _swap(pair: Pair, tensor: Tensor) -> Tensor:
    if tensor.shape[0] % 2:
        raise DataError(f"'{pair.original}' has {tensor.shape[0]} rows, which do not divide into two halves")
    first, second = tensor.chunk(2)
    return torch.cat([second, first])


def _reshape(pair: Pair, tensor: Tensor, *, to_conv: bool) -> Tensor:
    if pair.form != "conv1x1":
        return tensor
    return tensor[:, :, None, None] if to_conv else tensor.flatten(1)


def _structure(
    state: Mapping[str, Tensor], block: str, second: str, norm: str, what: str
) -> tuple[int, frozenset[int], bool]:
    """(depth, blocks with a second attention, whether queries and keys are normed), read from the keys."""
    found = {name: int(match[1]) for name in state if (match := re.match(block, name))}
    indices = sorted(set(found.values()))
    if not indices or indices != list(range(len(indices))):
        raise DataError(
            f"the keys are not those of {what}: block numbers {indices[:8]} instead of 0, 1, 2, ...",
            why="the number of blocks is read from the keys",
            do=f"check that the file is whole; its first keys are {_some(sorted(state))}",
        )
    dual = frozenset(index for name, index in found.items() if second in name)
    return len(indices), dual, any(norm in name for name in found)


def _some(names: Sequence[str], *, quoted: bool = False, most: int = 6) -> str:
    shown = ", ".join(name if quoted else f"'{name}'" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
