"""Two sets of names for Anima: our export's, which are a diffusers pipeline's, and the released files'. Knows names; knows no file.

Every tensor is the same in both, so the tables only rename, and both directions read the same one. The text adapter has the names
that it has in diffusers; the text encoder those of transformers, behind `model.`. Nothing is guessed: a key too many or too few is
a `DataError`, except `IGNORED`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from ...core.errors import DataError
from .. import names
from ..names import Pair, check_names, diffusers_names, num_blocks, original_names, prefixed, without

TRANSFORMER, CONDITIONER = (
    "transformer.",
    "text_conditioner.",
)  # folders of a diffusers pipeline, as our export's prefixes
RELEASED = "net."  # of the released file, and the only one that kohya's scripts read besides none
DIFFUSION = "model.diffusion_model."  # of an all-in-one file
VAE = "first_stage_model."
TEXT = "cond_stage_model.qwen3_06b.transformer."  # ComfyUI knows no `text_encoders.` for Anima
PREFIXES = (RELEASED, DIFFUSION, VAE, TEXT)
ADAPTER = "llm_adapter."
ENCODER = "model."  # before the names of a `Qwen3Model`, in a file of its own and behind `TEXT`

# Constants that a full save of kohya's scripts holds. Its own loader refuses them, so they are never written.
IGNORED = frozenset(f"pos_embedder.{name}" for name in ("seq", "dim_spatial_range", "dim_temporal_range"))

OUTSIDE = {  # released file -> diffusers, outside the blocks; no layer of the DiT has a bias
    "x_embedder.proj.1": "patch_embed.proj",
    "t_embedder.1.linear_1": "time_embed.t_embedder.linear_1",
    "t_embedder.1.linear_2": "time_embed.t_embedder.linear_2",
    "t_embedding_norm": "time_embed.norm",
    "final_layer.adaln_modulation.1": "norm_out.linear_1",
    "final_layer.adaln_modulation.2": "norm_out.linear_2",
    "final_layer.linear": "proj_out",
}
# Of Cosmos models with a learned code of positions beside the rotary one. The released Anima has none; `anima/tiny` has.
POSITIONS = {f"extra_pos_embedder.pos_emb_{axis}": f"learnable_pos_embed.pos_emb_{axis}" for axis in "thw"}
ATTENTION = {
    "q_proj": "to_q",
    "k_proj": "to_k",
    "v_proj": "to_v",
    "output_proj": "to_out.0",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
}
BLOCK = {
    **{f"self_attn.{ours}": f"attn1.{theirs}" for ours, theirs in ATTENTION.items()},
    **{f"cross_attn.{ours}": f"attn2.{theirs}" for ours, theirs in ATTENTION.items()},
    "mlp.layer1": "ff.net.0.proj",
    "mlp.layer2": "ff.net.2",
    **{
        f"adaln_modulation_{part}.{layer}": f"norm{number}.linear_{layer}"
        for number, part in enumerate(("self_attn", "cross_attn", "mlp"), start=1)
        for layer in (1, 2)
    },
}
ADAPTER_ATTENTION = ("q_proj", "q_norm", "k_proj", "k_norm", "v_proj", "o_proj")
ADAPTER_BLOCK = [
    *(f"norm_{part}.weight" for part in ("self_attn", "cross_attn", "mlp")),
    *(f"{part}.{layer}.weight" for part in ("self_attn", "cross_attn") for layer in ADAPTER_ATTENTION),
    *(f"mlp.{layer}{end}" for layer in (0, 2) for end in names.BOTH),
]
ADAPTER_OUTSIDE = ["embed.weight", "out_proj.weight", "out_proj.bias", "norm.weight"]
ADAPTER_WIDER = ["in_proj.weight", "in_proj.bias"]  # where the token embedding has another width than the adapter

ENCODER_BLOCK = [
    *(f"self_attn.{layer}_proj.weight" for layer in "qkvo"),
    *(f"self_attn.{layer}_norm.weight" for layer in "qk"),
    *(f"mlp.{layer}_proj.weight" for layer in ("gate", "up", "down")),
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
]
HEAD = "lm_head.weight"  # of a language model; nothing here asks for the next word

DIT = (
    "blocks.0.mlp.layer1.weight",
    "transformer_blocks.0.norm3.linear_1.weight",
)  # by these keys a Cosmos-Predict2 DiT is known
OURS, THEIRS = "an Anima backbone", "a released Anima file"


def to_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of our export -> names of the released file, without its prefix.

    Raises:
        DataError: a key is unknown or missing.
    """
    depth = num_blocks(state, r"transformer\.transformer_blocks\.(\d+)\.", what=OURS)
    adapter = _adapter_names(state, CONDITIONER)
    learned = any(f"{TRANSFORMER}{name}" in state for name in POSITIONS.values())
    return original_names(state, backbone_pairs(depth, adapter, learned_positions=learned), what=OURS)


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the released file, without a prefix (see `parts`) -> names of our export.

    Raises:
        DataError: a key is unknown or missing, or there is no text adapter.
    """
    state = {name: tensor for name, tensor in state.items() if name not in IGNORED}
    depth = num_blocks(state, r"blocks\.(\d+)\.", what=THEIRS)
    adapter = _adapter_names(state, ADAPTER)
    learned = any(name in state for name in POSITIONS)
    return diffusers_names(state, backbone_pairs(depth, adapter, learned_positions=learned), what=THEIRS)


def backbone_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DiT and adapter of a file under the names of our export, whichever it holds: released names behind any known prefix or none,
    or those of our export.

    Raises:
        DataError: the file holds something else, a key is unknown or missing, or there is no text adapter.
    """
    if any(name.startswith("transformer_blocks.") for name in state):  # the folder of one of the two networks
        state = prefixed(state, TRANSFORMER)
    if any(name.startswith((TRANSFORMER, CONDITIONER)) for name in state):
        to_released(state)  # looks whether every name is there, and costs nothing
        return dict(state)
    taken = parts(state)
    if RELEASED not in taken:
        raise DataError(
            f"no diffusion weights here, only {', '.join(sorted(taken))}",
            do="this is a codec or a text encoder; give the file of the diffusion model",
        )
    return from_released(taken[RELEASED])


def parts(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """An all-in-one file taken apart: prefix -> state without it; the diffusion weights are under `RELEASED` whatever prefix they
    had, also when they had none.

    Raises:
        DataError: some keys have a known prefix and others have none, or the diffusion weights are there twice.
    """
    found = names.parts(state, PREFIXES, alone=RELEASED)
    if RELEASED in found and DIFFUSION in found:
        raise DataError(
            f"diffusion weights with two prefixes: {RELEASED} and {DIFFUSION}",
            why="nobody can tell which of them are meant",
            do="keep the keys of one prefix",
        )
    return {RELEASED if prefix == DIFFUSION else prefix: part for prefix, part in found.items()}


def to_encoder_file(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of a `Qwen3Model` -> names of the released text encoder.

    Raises:
        DataError: a key is unknown or missing.
    """
    check_names(state, encoder_names(state), what="a Qwen3 text encoder")
    return prefixed(state, ENCODER)


def from_encoder_file(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of a text encoder, behind `model.` or bare -> names of a `Qwen3Model`. A language model's head is left out.

    Raises:
        DataError: a key is unknown or missing.
    """
    state = {name.removeprefix(ENCODER): tensor for name, tensor in state.items() if name != HEAD}
    check_names(state, encoder_names(state), what="a Qwen3 text encoder")
    return state


def backbone_pairs(depth: int, adapter: Iterable[str], *, learned_positions: bool = False) -> list[Pair]:
    """The table of a DiT of `depth` blocks and an adapter with the tensors named `adapter`."""
    pairs = [Pair(f"{ours}.weight", (f"{TRANSFORMER}{theirs}.weight",)) for ours, theirs in OUTSIDE.items()]
    if learned_positions:
        pairs += [Pair(ours, (TRANSFORMER + theirs,)) for ours, theirs in POSITIONS.items()]
    for index in range(depth):
        ours, theirs = f"blocks.{index}", f"{TRANSFORMER}transformer_blocks.{index}"
        pairs += [Pair(f"{ours}.{a}.weight", (f"{theirs}.{b}.weight",)) for a, b in BLOCK.items()]
    return pairs + [Pair(ADAPTER + name, (CONDITIONER + name,)) for name in adapter]


def encoder_names(state: Iterable[str]) -> list[str]:
    """Every tensor of a `Qwen3Model` with as many layers as `state` speaks of."""
    depth = num_blocks(state, r"layers\.(\d+)\.", what="a Qwen3 text encoder")
    layers = [f"layers.{index}.{name}" for index in range(depth) for name in ENCODER_BLOCK]
    return ["embed_tokens.weight", "norm.weight", *layers]


def _adapter_names(state: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Every tensor of an adapter with as many blocks as `state` has behind `prefix`."""
    adapter = without(state, prefix)
    if not adapter and any(name.endswith(DIT) for name in state):
        raise DataError(
            f"this DiT has no text adapter: no key begins with {prefix}",
            why="without it no caption reaches the DiT as it did in training, and ComfyUI takes such a file for Cosmos-Predict2",
            do="give the whole Anima file, or a diffusers pipeline folder that has `text_conditioner` beside `transformer`",
        )
    what = "Anima's text adapter" if adapter else "Anima"
    depth = num_blocks(state, rf"{re.escape(prefix)}blocks\.(\d+)\.", what=what)
    wider = ADAPTER_WIDER if any(name in adapter for name in ADAPTER_WIDER) else []
    blocks = [f"blocks.{index}.{name}" for index in range(depth) for name in ADAPTER_BLOCK]
    return [*ADAPTER_OUTSIDE, *wider, *blocks]
