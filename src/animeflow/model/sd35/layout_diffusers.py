"""SD3.5 as a folder that `StableDiffusion3Pipeline.from_pretrained` loads without a network. Knows diffusers' and transformers'
folders; knows no run. Weights are written by `tensor_file`, so every tensor is checked; configs by the classes themselves."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor

from ...core.errors import DataError
from ...core.files import read_json, write_json
from ..codec import drop_derived_settings
from ..tensor_file import cast, read_tensors, write_tensors
from .keymap import check_names

if TYPE_CHECKING:
    from .encoders import T5, Clip
    from .layouts import SD35Parts

WEIGHTS = "diffusion_pytorch_model.safetensors"
DIFFUSERS_T5_LENGTH = 256  # the pipeline's default
PRIVATE = ("_name_or_path", "name_or_path")  # where a part was loaded from: a path of the machine that wrote the file

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
        provenance = {key: value for key, value in metadata.items() if not key.startswith("modelspec.")}
        self._write_transformer(state, folder / "transformer", dtype, metadata)
        codec = self.family.codec().net
        codec.save_config(folder / "vae")
        drop_derived_settings(folder / "vae")
        write_tensors(folder / "vae" / WEIGHTS, cast(codec.state_dict(), dtype), provenance)
        tower = self.family.text_tower()
        for suffix, encoder in (("", tower.clip_l), ("_2", tower.clip_g), ("_3", tower.t5)):
            if encoder is not None:
                _write_text_encoder(encoder, folder / f"text_encoder{suffix}", dtype, provenance)
                encoder.tokenizer.save_pretrained(folder / f"tokenizer{suffix}")
        scheduler = FlowMatchEulerDiscreteScheduler(shift=self.family.defaults.shift)
        scheduler.save_pretrained(folder / "scheduler")
        write_json(folder / "model_index.json", self._index())
        for file in folder.rglob("*.json"):
            _forget_paths(file)
        return sorted(file for file in folder.rglob("*") if file.is_file())

    def read(self, path: Path) -> dict[str, Tensor]:
        """From a pipeline folder or its `transformer`; weights may be in several files."""
        path = path / "transformer" if (path / "transformer").is_dir() else path
        files = sorted(path.glob("diffusion_pytorch_model*.safetensors"))
        if not files:
            raise DataError(
                "no diffusion_pytorch_model*.safetensors here",
                where=str(path),
                do="give a diffusers SD3 pipeline folder",
            )
        return {name: tensor for file in files for name, tensor in read_tensors(file).items()}

    def notes(self) -> list[str]:
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
        expected = network.state_dict()
        check_names(state, expected, what=f"{self.family.name}/{self.family.flavour}")
        wrong = [name for name, tensor in state.items() if tensor.shape != expected[name].shape]
        if wrong:
            raise DataError(
                f"{len(wrong)} tensors have another shape than {self.family.name}/{self.family.flavour}, first '{wrong[0]}' "
                f"{tuple(state[wrong[0]].shape)} instead of {tuple(expected[wrong[0]].shape)}",
                do="export with the model settings of the run",
            )
        network.save_config(folder)
        write_tensors(folder / WEIGHTS, cast(state, dtype), metadata)

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


def _write_text_encoder(encoder: Clip | T5, folder: Path, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
    config = copy.deepcopy(encoder.model.config)
    config.architectures = [type(encoder.model).__name__]
    config.dtype = (
        torch.float32
    )  # what it loads in unless told otherwise: diffusers' own parts do so whatever the file holds
    config.save_pretrained(folder)
    state = {
        name: tensor for name, tensor in encoder.model.state_dict().items() if name != "encoder.embed_tokens.weight"
    }
    write_tensors(folder / "model.safetensors", cast(state, dtype), metadata)


def _forget_paths(file: Path) -> None:
    facts = read_json(file)
    if isinstance(facts, dict) and any(key in facts for key in PRIVATE):
        write_json(file, {key: value for key, value in facts.items() if key not in PRIVATE})
