"""Anima as a folder that diffusers' modular pipeline loads without a network. Knows diffusers' and transformers' folders; knows no
run. Weights are written by `tensor_file`, so every tensor is checked; configs by the classes themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from diffusers import AnimaTextConditioner, CosmosTransformer3DModel, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ...core.files import write_json
from ..codec import drop_derived_settings
from ..layout_parts import WEIGHTS, forget_paths, tell, without_spec, write_network, write_text_encoder
from ..names import without
from ..tensor_file import cast, write_tensors
from .codec import QwenCodec
from .keymap import CONDITIONER, TRANSFORMER, to_released
from .load import stored_state

if TYPE_CHECKING:
    from .layouts import AnimaParts

DIFFUSERS_LENGTH = 512  # tokens the pipeline keeps of a prompt unless it is told another number
EXAMPLE = """```python
import torch
from diffusers import ModularPipeline

pipe = ModularPipeline.from_pretrained("diffusers")
pipe.load_components(dtype=torch.bfloat16)
pipe.to("cuda")
image = pipe(prompt="1girl", negative_prompt="worst quality", num_inference_steps=30).images[0]
```"""

EXAMPLE_OF_LATENTS = """```python
from diffusers import ModularPipeline

blocks = ModularPipeline.from_pretrained("diffusers").blocks
blocks.sub_blocks.pop("decode")
pipe = blocks.init_pipeline("diffusers")
pipe.load_components()
latents = pipe(prompt="1girl", num_inference_steps=30, height=96, width=96, output="latents")
```"""


class DiffusersFolder:
    """`modular_model_index.json` and one folder per part. DiT and text adapter are two folders, `transformer` and
    `text_conditioner`; the small autoencoder of a demo lies in `vae`, but is not in the index, for the pipeline cannot use it."""

    name = "diffusers"
    place = "load the folder with diffusers"
    has_backbone = True

    def __init__(self, family: AnimaParts) -> None:
        self.family = family
        self.example = EXAMPLE if isinstance(family.codec(), QwenCodec) else EXAMPLE_OF_LATENTS

    def write(
        self,
        state: Mapping[str, Tensor],
        folder: Path,
        *,
        dtype: torch.dtype,
        metadata: Mapping[str, str],
        stem: str = "model",
    ) -> list[Path]:
        """`stem` is not used: diffusers knows its files by their names."""
        tell(self)
        provenance = without_spec(metadata)
        self._write_backbone(state, folder, dtype, metadata)
        codec = self.family.codec().net
        codec.save_config(folder / "vae")
        drop_derived_settings(folder / "vae")
        write_tensors(folder / "vae" / WEIGHTS, cast(codec.state_dict(), dtype), provenance)
        tower = self.family.text_tower()
        write_text_encoder(tower.model, folder / "text_encoder", dtype, provenance)
        tower.tokenizer.save_pretrained(folder / "tokenizer")
        tower.t5_tokenizer.save_pretrained(folder / "t5_tokenizer")
        FlowMatchEulerDiscreteScheduler(shift=self.family.defaults.shift).save_pretrained(folder / "scheduler")
        write_json(folder / "modular_model_index.json", self._index())
        forget_paths(folder)
        return sorted(file for file in folder.rglob("*") if file.is_file())

    def read(self, path: Path) -> dict[str, Tensor]:
        """From a pipeline folder; weights may be in several files."""
        return stored_state(path)

    def notes(self) -> list[str]:
        said = [
            "diffusers' pipeline needs torchvision, for which its CosmosTransformer3DModel asks when it runs.",
            f"diffusers cuts a prompt at {DIFFUSERS_LENGTH} tokens unless it is called with a larger max_sequence_length.",
        ]
        if self.family.empty_prompt != "masked":
            said.append(
                "diffusers makes no token of an empty prompt, where the training had one padding token, as in ComfyUI."
            )
        codec = self.family.codec()
        if not isinstance(codec, QwenCodec):
            said.append(
                f"The autoencoder is a small one ({type(codec.net).__name__}) that diffusers' Anima pipeline cannot use: it lies"
                " in `vae` and is left out of the index. Without its decoding block the pipeline gives latents, which animeflow"
                " decodes."
            )
        return said

    def _write_backbone(
        self, state: Mapping[str, Tensor], folder: Path, dtype: torch.dtype, metadata: Mapping[str, str]
    ) -> None:
        to_released(state)  # looks whether every name is there
        shape, flavour = self.family.shape, f"{self.family.name}/{self.family.flavour}"
        with torch.device("meta"):
            transformer = CosmosTransformer3DModel(**shape.transformer_config())
            conditioner = AnimaTextConditioner(**shape.conditioner_config())
        for network, prefix in ((transformer, TRANSFORMER), (conditioner, CONDITIONER)):
            place = folder / prefix.removesuffix(".")
            write_network(
                network, without(state, prefix), place, dtype, metadata, what=f"the {place.name} of {flavour}"
            )

    def _index(self) -> dict[str, Any]:
        """Which class loads which folder. Where the folders lie is left open: then they are looked for beside the index."""
        parts = {
            "transformer": ("diffusers", "CosmosTransformer3DModel"),
            "text_conditioner": ("diffusers", "AnimaTextConditioner"),
            "text_encoder": ("transformers", "Qwen3Model"),
            "tokenizer": ("transformers", "Qwen2Tokenizer"),
            "t5_tokenizer": ("transformers", "T5TokenizerFast"),
            "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
        }
        if isinstance(self.family.codec(), QwenCodec):
            parts["vae"] = ("diffusers", "AutoencoderKLQwenImage")
        return {
            "_class_name": "AnimaModularPipeline",
            "_blocks_class_name": "AnimaAutoBlocks",
            "_diffusers_version": diffusers.__version__,
        } | {
            name: [
                *kind,
                {
                    "pretrained_model_name_or_path": None,
                    "revision": None,
                    "subfolder": name,
                    "type_hint": list(kind),
                    "variant": None,
                },
            ]
            for name, kind in parts.items()
        }
