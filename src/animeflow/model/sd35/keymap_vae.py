"""Two sets of names for one autoencoder: diffusers' `AutoencoderKL` and the original (LDM) file. Knows names; knows no file.

The original counts the decoder's levels from the picture (`decoder.up.0` is the last to run), diffusers from the latents; its
attention is made of 1x1 convolutions. SD3's autoencoder has no quant convolutions; those of older ones keep their name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ...core.errors import DataError
from ..names import BOTH, Pair, diffusers_names, original_names

RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
DIFFUSERS_LEVEL = r"(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\.resnets\.(\d+)\.(\w+)\."
ORIGINAL_LEVEL = r"(encoder|decoder)\.(?:down|up)\.(\d+)\.block\.(\d+)\.(\w+)\."


def vae_to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of `AutoencoderKL` -> LDM names, without a prefix.

    Raises:
        DataError: a key is unknown or missing.
    """
    return original_names(state, _pairs(state, original=False), what="diffusers' AutoencoderKL")


def vae_from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """LDM names, without a prefix -> names of `AutoencoderKL`.

    Raises:
        DataError: a key is unknown or missing.
    """
    return diffusers_names(state, _pairs(state, original=True), what="an original autoencoder")


def _pairs(state: Mapping[str, Tensor], *, original: bool) -> list[Pair]:
    """The table for the levels, resnets and options whose keys are there, whichever set of names they are in."""
    pairs = [Pair(f"{half}{end}", (f"{half}{end}",)) for half in ("quant_conv", "post_quant_conv") for end in BOTH]
    pairs = [pair for pair in pairs if pair.original in state]
    for half in ("encoder", "decoder"):
        for ours, theirs in (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out")):
            pairs += _both(f"{half}.{ours}", f"{half}.{theirs}")
        for index in range(2):
            pairs += _resnet(f"{half}.mid.block_{index + 1}", f"{half}.mid_block.resnets.{index}", shortcut=False)
        attention = f"{half}.mid.attn_1." if original else f"{half}.mid_block.attentions.0."
        if any(name.startswith(attention) for name in state):
            for ours, theirs in ATTENTION.items():
                name = f"{half}.mid.attn_1.{ours}", f"{half}.mid_block.attentions.0.{theirs}"
                pairs += _both(*name, conv=ours != "norm")
        pairs += _levels(state, half, original=original)
    return pairs


def _levels(state: Mapping[str, Tensor], half: str, *, original: bool) -> list[Pair]:
    """Resnets and resampling of every level of one half."""
    found: dict[tuple[int, int], set[str]] = {}
    for name in state:
        match = re.match(ORIGINAL_LEVEL if original else DIFFUSERS_LEVEL, name)
        if match and match[1] == half:
            found.setdefault((int(match[2]), int(match[3])), set()).add(match[4])
    levels = sorted({level for level, _ in found})
    if not levels or levels != list(range(len(levels))):
        raise DataError(f"this is no autoencoder: its {half} has levels {levels[:8]} instead of 0, 1, 2, ...")
    ours, theirs, step = ("down", "down_blocks", "downsample") if half == "encoder" else ("up", "up_blocks", "upsample")
    pairs: list[Pair] = []
    for (level, index), names in sorted(found.items()):
        there, here = _both_levels(half, level, len(levels), original=original)
        shortcut = bool(names & {"nin_shortcut", "conv_shortcut"})
        pairs += _resnet(
            f"{half}.{ours}.{here}.block.{index}", f"{half}.{theirs}.{there}.resnets.{index}", shortcut=shortcut
        )
    for level in levels:
        there, here = _both_levels(half, level, len(levels), original=original)
        resample = f"{half}.{ours}.{here}.{step}.conv", f"{half}.{theirs}.{there}.{step}rs.0.conv"
        if any(resample[0 if original else 1] + end in state for end in BOTH):
            pairs += _both(*resample)
    return pairs


def _both_levels(half: str, level: int, levels: int, *, original: bool) -> tuple[int, int]:
    """(diffusers' level, the original's level) of a level counted in the names at hand."""
    other = levels - 1 - level if half == "decoder" else level
    return (other, level) if original else (level, other)


def _resnet(ours: str, theirs: str, *, shortcut: bool) -> list[Pair]:
    names = {mine: yours for mine, yours in RESNET.items() if shortcut or mine != "nin_shortcut"}
    return [pair for mine, yours in names.items() for pair in _both(f"{ours}.{mine}", f"{theirs}.{yours}")]


def _both(ours: str, theirs: str, *, conv: bool = False) -> list[Pair]:
    return [Pair(ours + end, (theirs + end,), "conv1x1" if conv and end == ".weight" else "same") for end in BOTH]
