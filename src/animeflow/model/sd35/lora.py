"""SD3.5's LoRA: presets of layers, and the names that programs have for them. Knows names; knows no file.

The tables follow from those of whole files (`keymap`): kohya's scripts and ComfyUI know the original network, whose queries, keys
and values are one layer, and diffusers its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from ..dialect import Dialect
from ..lora_layers import low_rank_layers
from ..lora_names import Spelling, rows_of
from ..lora_table import DORA_IN_COMFYUI, NO_DORA_IN_COMFYUI, TableDialect
from .keymap import transformer_pairs

LORAS = "`ComfyUI/models/loras`"
BLOCKS = "transformer_blocks.*"
ATTENTION = (f"{BLOCKS}.attn.*", f"{BLOCKS}.attn2.*")
TARGETS: Mapping[str, tuple[str, ...]] = {
    "default": (*ATTENTION, f"{BLOCKS}.ff.*", f"{BLOCKS}.ff_context.*"),
    "attention": ATTENTION,
    "all": (BLOCKS,),  # with the modulations: what kohya's `networks.lora_sd3` trains
}
# Of the last block only the picture goes on, so the text there is asked (keys, values) and asks nothing itself.
DEAD = {"transformer_blocks.#.attn.add_q_proj": "nothing reads what the last block's text asks for"}
EXAMPLE = """```python
from diffusers import StableDiffusion3Pipeline

pipe = StableDiffusion3Pipeline.from_pretrained("{base}")  # the path of the base, as a diffusers folder
pipe.load_lora_weights(".", weight_name="{file}")
```"""
PEFT_EXAMPLE = """```python
from peft import PeftModel

transformer = PeftModel.from_pretrained(pipe.transformer, "{file}")
```"""

# Two blocks say everything: one in the middle and the last, both with a second attention.
ROWS = rows_of(transformer_pairs(2, dual=(0, 1), norms=False), but=r"^pos_embed$")


def lora_layers(network: nn.Module, *, inside: str) -> dict[str, str]:
    """Name in files -> name of the module in the backbone, which holds `network` as `inside`."""
    return {name: f"{inside}.{name}" for name in low_rank_layers(network)}


def dialects() -> Mapping[str, Dialect]:
    """By name; the first is read by ComfyUI and by kohya's scripts."""
    found = (
        TableDialect(
            name="kohya",
            readers=("ComfyUI", "kohya sd-scripts"),
            plain=("kohya sd-scripts",),
            place=LORAS,
            rows=ROWS,
            spellings=(
                Spelling("lora_unet_", original=True, joint="_"),
                Spelling("lora_transformer_", joint="_"),  # OneTrainer
                Spelling("lycoris_", joint="_"),
            ),
            down="lora_down.weight",
            up="lora_up.weight",
            magnitude="dora_scale",
            of_magnitudes=DORA_IN_COMFYUI,
            own_alpha=True,
        ),
        TableDialect(
            name="comfyui",
            readers=("ComfyUI",),
            place=LORAS,
            rows=ROWS,
            spellings=tuple(
                Spelling(prefix, original=True) for prefix in ("diffusion_model.", "model.diffusion_model.", "")
            ),
            magnitude="dora_scale",
            of_magnitudes=DORA_IN_COMFYUI,
            own_alpha=True,
        ),
        TableDialect(
            name="diffusers",
            readers=("diffusers", "ComfyUI"),
            plain=("ComfyUI",),
            of_magnitudes=NO_DORA_IN_COMFYUI,
            place=LORAS,
            example=EXAMPLE,
            rows=ROWS,
            spellings=(Spelling("transformer."), Spelling("")),
        ),
        TableDialect(
            name="peft",
            readers=("peft",),
            place="a folder of its own",
            example=PEFT_EXAMPLE,
            rows=ROWS,
            spellings=(Spelling("base_model.model."),),
            own_alpha=True,
        ),
    )
    return {dialect.name: replace(dialect, dead=DEAD) for dialect in found}
