"""Anima's LoRA: presets of layers, and the names that programs have for them. Knows names; knows no file.

The tables follow from those of whole files (`keymap`). Nothing is joined or swapped here: the released file and diffusers only
differ in names. The text adapter is a second network for diffusers, and a part of the one for everybody else.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..dialect import Dialect
from ..lora_layers import low_rank_layers
from ..lora_names import Spelling, rows_of
from ..lora_table import DORA_IN_COMFYUI, NO_DORA_IN_COMFYUI, TableDialect
from .keymap import ADAPTER_BLOCK, ADAPTER_OUTSIDE, ADAPTER_WIDER, CONDITIONER, TRANSFORMER, backbone_pairs

LORAS = "`ComfyUI/models/loras`"
BLOCKS = f"{TRANSFORMER}transformer_blocks.*"
ATTENTION = (f"{BLOCKS}.attn1.*", f"{BLOCKS}.attn2.*")
TARGETS: Mapping[str, tuple[str, ...]] = {
    "default": (*ATTENTION, f"{BLOCKS}.ff.*"),
    "attention": ATTENTION,
    "all": (BLOCKS,),
    "adapter": (f"{CONDITIONER}blocks.*",),  # of the text adapter, what every program knows
}
EXAMPLE = """```python
from diffusers import ModularPipeline

pipe = ModularPipeline.from_pretrained("{base}")  # the path of the base, as a diffusers folder
pipe.load_components()
pipe.load_lora_weights(".", weight_name="{file}")
```"""
PEFT_EXAMPLE = """```python
from peft import PeftModel

transformer = PeftModel.from_pretrained(pipe.transformer, "{file}")
```"""

OUTSIDE_BLOCKS = "Kohya's scripts know of the text adapter's layers only those in its blocks, and drop the others."
ADAPTER_NAMES = [*ADAPTER_OUTSIDE, *ADAPTER_WIDER, *(f"blocks.0.{name}" for name in ADAPTER_BLOCK)]
ROWS = rows_of(backbone_pairs(1, ADAPTER_NAMES), but=r"(^|[._])norm[._]|^llm_adapter\.embed\.")


def lora_layers(transformer: tuple[str, nn.Module], conditioner: tuple[str, nn.Module]) -> dict[str, str]:
    """Name in files -> name of the module in the backbone; both networks come with theirs."""
    return {
        prefix + name: f"{inside}.{name}"
        for prefix, (inside, network) in ((TRANSFORMER, transformer), (CONDITIONER, conditioner))
        for name in low_rank_layers(network)
    }


def dialects() -> Mapping[str, Dialect]:
    """By name; the first is read by ComfyUI and by kohya's scripts."""
    ours = (Spelling(TRANSFORMER, of=TRANSFORMER), Spelling(CONDITIONER, of=CONDITIONER))
    bare = Spelling("", of=TRANSFORMER)  # what diffusers' `save_lora_adapter` writes of the transformer alone
    released = tuple(Spelling(prefix, original=True) for prefix in ("diffusion_model.", "net.", ""))
    found = (
        TableDialect(
            name="kohya",
            readers=("ComfyUI", "kohya sd-scripts"),
            plain=("kohya sd-scripts",),
            place=LORAS,
            rows=ROWS,
            spellings=(
                Spelling("lora_unet_", original=True, joint="_"),
                Spelling("lora_transformer_", joint="_", of=TRANSFORMER),  # OneTrainer
                Spelling("lycoris_", joint="_", of=TRANSFORMER),
            ),
            down="lora_down.weight",
            up="lora_up.weight",
            of_layers={f"{CONDITIONER}{layer}_proj": OUTSIDE_BLOCKS for layer in ("in", "out")},
            magnitude="dora_scale",
            of_magnitudes=DORA_IN_COMFYUI,
            own_alpha=True,
        ),
        TableDialect(
            name="comfyui",
            readers=("ComfyUI",),
            place=LORAS,
            rows=ROWS,
            spellings=released,
            magnitude="dora_scale",
            of_magnitudes=DORA_IN_COMFYUI,
            own_alpha=True,
            told_by_alpha=True,
        ),
        TableDialect(
            name="diffusers",
            readers=("diffusers", "ComfyUI"),
            plain=("ComfyUI",),
            of_magnitudes=NO_DORA_IN_COMFYUI,
            place=LORAS,
            example=EXAMPLE,
            rows=ROWS,
            spellings=(*released, *ours, bare),
        ),
        TableDialect(
            name="peft",
            readers=("peft",),
            place="a folder of its own",
            example=PEFT_EXAMPLE,
            rows=ROWS,
            spellings=(
                Spelling("base_model.model.", of=TRANSFORMER),
                Spelling(f"{CONDITIONER}base_model.model.", of=CONDITIONER),  # a folder in the folder
            ),
            own_alpha=True,
        ),
    )
    return {dialect.name: dialect for dialect in found}
