"""What a file of weights looks like, told by its keys: for messages, never for a decision. Knows names; knows no family's.

A family says in its package what its own files look like (`SIGNS`, see `registry.signs`); here are those that we do not train.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from . import registry

Sign = tuple[str, str]  # a pattern that one of the keys has; what the file then looks like

# The order matters: a LoRA bears the names of the network it is for, and FLUX has layers with the names of other lines.
FIRST: tuple[Sign, ...] = (
    (r"(^|[._])lora_|\.lora\.|\.(hada_w1_a|lokr_w1)$", "a LoRA"),
    (r"(^|\.)(double_blocks|single_transformer_blocks)\.", "FLUX"),
)
LAST: tuple[Sign, ...] = (
    (r"(^|\.)blocks\.\d+\.adaln_modulation", "Cosmos-Predict2 without a text adapter"),
    (r"^(model\.diffusion_model\.)?input_blocks\.|^(down|mid)_blocks?\..*attentions\.", "a U-Net (SD 1.5 or SDXL)"),
    (r"(^|\.)time_text_embed\.|(^|\.)transformer_blocks\.", "a diffusion transformer in diffusers' names"),
    (
        r"^first_stage_model\.|^decoder\.(up|up_blocks|upsamples|mid|mid_block|middle)\.|^decoder\.layers\.\d+\.(conv\.|weight$)",
        "an autoencoder",
    ),
    (r"(^|\.)text_model\.encoder\.", "a CLIP text encoder"),
    (r"^(encoder\.)?block\.\d+\.layer\.\d+\.(SelfAttention|DenseReluDense)\.", "a T5 text encoder"),
    (r"^(model\.)?layers\.\d+\.self_attn\.[qkvo]_proj\.", "a language model, such as Qwen3"),
)


def looks_like(names: Iterable[str]) -> str | None:
    """The kind of network whose keys these resemble, or `None`."""
    keys = list(names)
    for pattern, kind in (*FIRST, *registry.signs(), *LAST):
        sign = re.compile(pattern)
        if any(sign.search(key) for key in keys):
            return kind
    return None
