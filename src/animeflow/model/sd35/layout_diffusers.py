"""SD3.5 as a folder that `StableDiffusion3Pipeline.from_pretrained` loads without a network. Knows diffusers' and transformers'
folders; knows no run. Weights are written by `tensor_file`, so every tensor is checked; configs by the classes themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor

from ...core.files import write_json
from ..codec import drop_derived_settings
from ..layout_parts import WEIGHTS, forget_paths, read_network, without_spec, write_network, write_text_encoder
from ..tensor_file import cast, write_tensors

if TYPE_CHECKING:
    from .layouts import SD35Parts

DIFFUSERS_T5_LENGTH = 256  # the pipeline's default
TWICE = frozenset({"encoder.embed_tokens.weight"})  # T5's input embedding has two names

EXAMPLE = """```python
from diffusers import StableDiffusion3Pipeline

pipe = StableDiffusion3Pipeline.from_pretrained("diffusers")
```"""


class DiffusersFolder:
    """`model_index.json` and one folder per part. A T5 that is not there is `null` in the index; the user
    then has to say `text_encoder_3=None, tokenizer_3=None`, as for every SD3 without T5, and diffusers puts zeros."""

    name = "diffusers"
    place = "load the folder with diffusers"
    example = EXAMPLE
    has_backbone = True

    def __init__(self, family: SD35Parts) -> None:
        self.family = family

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
        provenance = without_spec(metadata)
        self._write_transformer(state, folder / "transformer", dtype, metadata)
        codec = self.family.codec().net
        codec.save_config(folder / "vae")
        drop_derived_settings(folder / "vae")
        write_tensors(folder / "vae" / WEIGHTS, cast(codec.state_dict(), dtype), provenance)
        tower = self.family.text_tower()
        for suffix, encoder in (("", tower.clip_l), ("_2", tower.clip_g), ("_3", tower.t5)):
            if encoder is not None:
                write_text_encoder(encoder.model, folder / f"text_encoder{suffix}", dtype, provenance, twice=TWICE)
                encoder.tokenizer.save_pretrained(folder / f"tokenizer{suffix}")
        scheduler = FlowMatchEulerDiscreteScheduler(shift=self.family.defaults.shift)
        scheduler.save_pretrained(folder / "scheduler")
        write_json(folder / "model_index.json", self._index())
        forget_paths(folder)
        return sorted(file for file in folder.rglob("*") if file.is_file())

    def read(self, path: Path) -> dict[str, Tensor]:
        """From a pipeline folder or its `transformer`; weights may be in several files."""
        path = path / "transformer" if (path / "transformer").is_dir() else path
        return read_network(path, do="give a diffusers SD3 pipeline folder")

    def notes(self) -> list[str]:
        tower = self.family.text_tower()
        return [*_clip_notes(tower.clip_chunks, tower.clip_l.length), *self._t5_notes()]

    def _t5_notes(self) -> list[str]:
        tower = self.family.text_tower()
        if tower.t5 is None:
            return ["There is no T5: load the pipeline with text_encoder_3=None, tokenizer_3=None."]
        if tower.t5_length.policy != "diffusers":
            return [
                f"The T5 length of the training was `{tower.t5_length.policy}`, from {tower.t5_length.minimum} to "
                f"{tower.t5_length.maximum} tokens; a pipeline pads every prompt to its max_sequence_length."
            ]
        if tower.t5_length.length != DIFFUSERS_T5_LENGTH:
            return [
                f"Call the pipeline with max_sequence_length={tower.t5_length.length}, the T5 length of the training."
            ]
        return []

    def _write_transformer(
        self, state: Mapping[str, Tensor], folder: Path, dtype: torch.dtype, metadata: Mapping[str, str]
    ) -> None:
        with torch.device("meta"):
            network = SD3Transformer2DModel(**self.family.shape.config())
        what = f"{self.family.name}/{self.family.flavour}"
        write_network(network, state, folder, dtype, metadata, what=what)

    def _index(self) -> dict[str, Any]:
        tower = self.family.text_tower()
        clip = ["transformers", "CLIPTextModelWithProjection"], ["transformers", "CLIPTokenizer"]
        t5 = (
            (["transformers", "T5EncoderModel"], ["transformers", "T5TokenizerFast"])
            if tower.t5
            else ([None, None], [None, None])
        )
        return {
            "_class_name": "StableDiffusion3Pipeline",
            "_diffusers_version": diffusers.__version__,
            "transformer": ["diffusers", "SD3Transformer2DModel"],
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "vae": ["diffusers", type(self.family.codec().net).__name__],
            "text_encoder": clip[0],
            "tokenizer": clip[1],
            "text_encoder_2": clip[0],
            "tokenizer_2": clip[1],
            "text_encoder_3": t5[0],
            "tokenizer_3": t5[1],
            "image_encoder": [None, None],
            "feature_extractor": [None, None],
        }


def _clip_notes(chunks: int, length: int) -> list[str]:
    if chunks == 1:
        return []
    return [
        f"In the training CLIP read long captions in up to {chunks} pieces of {length - 2} tokens, as ComfyUI does; a pipeline "
        f"cuts every prompt at {length} tokens of CLIP."
    ]
