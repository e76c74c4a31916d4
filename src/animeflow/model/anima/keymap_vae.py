"""Two sets of names for Qwen-Image's autoencoder: diffusers' and the original Wan file's, which is all that ComfyUI reads. Knows
names; knows no file.

The original counts residual blocks and resamplings of a half in one list. diffusers does the same in the encoder; in the decoder
it counts levels, each with its residual blocks and, but for the last, a resampling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from ...core.errors import DataError
from ..names import Pair, both, diffusers_names, listed, original_names

SHORTCUT = {"shortcut": "conv_shortcut"}
RESAMPLING = {"resample.1": "resample.1", "time_conv": "time_conv"}
ENCODER, ENCODER_ORIGINAL = r"encoder\.down_blocks\.(\d+)\.(.+)\.\w+", r"encoder\.downsamples\.(\d+)\.(.+)\.\w+"
DECODER, DECODER_ORIGINAL = (
    r"decoder\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.(.+)\.\w+",
    r"decoder\.upsamples\.(\d+)\.(.+)\.\w+",
)


def vae_to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of `AutoencoderKLQwenImage` -> original names, without a prefix.

    Raises:
        DataError: a key is unknown or missing.
    """
    what = "diffusers' AutoencoderKLQwenImage"
    encoder = _modules(state, ENCODER, what)
    levels: dict[tuple[int, str, int], set[str]] = {}
    for name in state:
        if match := re.fullmatch(DECODER, name):
            levels.setdefault((int(match[1]), match[2], int(match[3])), set()).add(match[4])
    resnets = 1 + max((index for _, kind, index in levels if kind == "resnets"), default=0)
    decoder = {
        level * (resnets + 1) + (index if kind == "resnets" else resnets): layers
        for (level, kind, index), layers in levels.items()
    }
    return original_names(state, _pairs(encoder, decoder, resnets=resnets), what=what)


def vae_from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Original names, without a prefix -> names of `AutoencoderKLQwenImage`.

    Raises:
        DataError: a key is unknown or missing.
    """
    what = "an original Qwen-Image autoencoder"
    encoder, decoder = _modules(state, ENCODER_ORIGINAL, what), _modules(state, DECODER_ORIGINAL, what)
    resamplings = [index for index, layers in decoder.items() if "resample.1" in layers]
    return diffusers_names(state, _pairs(encoder, decoder, resnets=min(resamplings, default=len(decoder))), what=what)


def _pairs(encoder: Mapping[int, set[str]], decoder: Mapping[int, set[str]], *, resnets: int) -> list[Pair]:
    """The table: `encoder` and `decoder` give the layers of every module of the original's two lists, under either names; `resnets`
    is the number of residual blocks in a level of the decoder."""
    pairs = both("conv1", "quant_conv") + both("conv2", "post_quant_conv")
    for half in ("encoder", "decoder"):
        pairs += both(f"{half}.conv1", f"{half}.conv_in") + both(f"{half}.head.2", f"{half}.conv_out")
        pairs.append(Pair(f"{half}.head.0.gamma", (f"{half}.norm_out.gamma",)))
        pairs += _residual(f"{half}.middle.0", f"{half}.mid_block.resnets.0", shortcut=False)
        pairs += _residual(f"{half}.middle.2", f"{half}.mid_block.resnets.1", shortcut=False)
        ours, theirs = f"{half}.middle.1", f"{half}.mid_block.attentions.0"
        pairs.append(Pair(f"{ours}.norm.gamma", (f"{theirs}.norm.gamma",)))
        pairs += both(f"{ours}.to_qkv", f"{theirs}.to_qkv") + both(f"{ours}.proj", f"{theirs}.proj")
    for index, layers in encoder.items():
        pairs += _module(f"encoder.downsamples.{index}", f"encoder.down_blocks.{index}", layers)
    for index, layers in decoder.items():
        level, place = divmod(index, resnets + 1)
        theirs = f"resnets.{place}" if place < resnets else "upsamplers.0"
        pairs += _module(f"decoder.upsamples.{index}", f"decoder.up_blocks.{level}.{theirs}", layers)
    return pairs


def _module(ours: str, theirs: str, layers: set[str]) -> list[Pair]:
    if "resample.1" in layers:
        return [pair for a, b in RESAMPLING.items() if b in layers for pair in both(f"{ours}.{a}", f"{theirs}.{b}")]
    return _residual(ours, theirs, shortcut=bool(layers & {*SHORTCUT, *SHORTCUT.values()}))


def _residual(ours: str, theirs: str, *, shortcut: bool) -> list[Pair]:
    """Norm, convolution, norm, convolution; the numbers count activation and dropout between them."""
    pairs = both(f"{ours}.residual.2", f"{theirs}.conv1") + both(f"{ours}.residual.6", f"{theirs}.conv2")
    pairs += [Pair(f"{ours}.residual.{a}.gamma", (f"{theirs}.{b}.gamma",)) for a, b in ((0, "norm1"), (3, "norm2"))]
    return pairs + (both(f"{ours}.shortcut", f"{theirs}.conv_shortcut") if shortcut else [])


def _modules(state: Iterable[str], pattern: str, what: str) -> dict[int, set[str]]:
    """Number of every module of a list -> its layers."""
    names = list(state)
    found: dict[int, set[str]] = {}
    for name in names:
        if match := re.fullmatch(pattern, name):
            found.setdefault(int(match[1]), set()).add(match[2])
    if sorted(found) != list(range(len(found))) or not found:
        raise DataError(
            f"the keys are not those of {what}: it has parts {sorted(found)[:8]} instead of 0, 1, 2, ...",
            do=f"check that the file is whole; its first keys are {listed(sorted(names))}",
        )
    return found
