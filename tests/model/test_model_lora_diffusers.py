"""LoRA files in diffusers and peft: every key is used, nothing else is touched, and the output is that of base + delta W."""

from __future__ import annotations

import logging
import types

import diffusers.models.transformers.transformer_cosmos as cosmos
import pytest
import torch
from contract import random_lora, stir
from diffusers import (
    AnimaAutoBlocks,
    AnimaTextConditioner,
    CosmosTransformer3DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn import functional as F

from animeflow.core.seed import normal
from animeflow.learn.files import read_lora, write_lora
from animeflow.model import registry
from animeflow.model.low_rank import LowRank, LowRankState

FAMILIES = ("anima", "sd35")


@pytest.fixture(autouse=True)
def torchvisions_resize(monkeypatch):
    """diffusers' Cosmos network asks torchvision for this, which a CPU install need not have."""

    def resize(mask, size, interpolation=None):
        return F.interpolate(mask, size=size, mode="nearest")

    transforms = types.SimpleNamespace(
        functional=types.SimpleNamespace(resize=resize), InterpolationMode=types.SimpleNamespace(NEAREST=0)
    )
    monkeypatch.setattr(cosmos, "transforms", transforms, raising=False)


@pytest.fixture
def said(monkeypatch):
    """What diffusers and peft complain about while they load."""
    records: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("diffusers")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    family = registry.constructor(request.param)("tiny")
    stir(family.backbone()).eval()
    return family


def small(state: LowRankState) -> dict[str, LowRank]:
    """Additions that leave the network in its range."""
    return {name: LowRank(0.3 * a.down, 0.1 * a.up, a.alpha, a.magnitude) for name, a in state.items()}


def networks(family, state) -> dict[str, nn.Module]:
    """diffusers' own networks with the weights of `state`, by the beginning of their names."""
    if family.name == "sd35":
        found = {"": SD3Transformer2DModel(**family.shape.config())}
    else:
        found = {
            "transformer.": CosmosTransformer3DModel(**family.shape.transformer_config()),
            "text_conditioner.": AnimaTextConditioner(**family.shape.conditioner_config()),
        }
    for prefix, network in found.items():
        network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        network.eval()
    return found


def pipeline_of(family, found):
    if family.name == "sd35":
        absent = dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3"))
        tokenizers = dict.fromkeys(("tokenizer", "tokenizer_2", "tokenizer_3"))
        return StableDiffusion3Pipeline(transformer=found[""], scheduler=None, vae=None, **absent, **tokenizers)
    pipe = AnimaAutoBlocks().init_pipeline()
    pipe.update_components(transformer=found["transformer."], text_conditioner=found["text_conditioner."])
    return pipe


@torch.no_grad()
def outputs(family, found) -> list[torch.Tensor]:
    x, t = normal((2, 16, 8, 12), "x"), torch.tensor([0.31, 0.87])
    shape = family.shape
    if family.name == "sd35":
        text = normal((2, 20, shape.joint_attention_dim), "text")
        pooled = normal((2, shape.pooled_projection_dim), "pooled")
        return [found[""](x, text, pooled, timestep=1000 * t).sample]
    ids = torch.arange(2 * 7).reshape(2, 7)
    states = normal((2, 9, shape.qwen_dim), "qwen")
    seen = found["text_conditioner."](
        source_hidden_states=states,
        target_input_ids=ids,
        target_attention_mask=torch.ones(2, 7, dtype=torch.bool),
        source_attention_mask=torch.ones(2, 9, dtype=torch.bool),
    )
    padding = torch.zeros(1, 1, 64, 96)
    velocity = found["transformer."](
        hidden_states=x[:, :, None], timestep=t, encoder_hidden_states=seen, padding_mask=padding
    ).sample
    return [seen, velocity]


def merged(family, state: LowRankState) -> dict[str, torch.Tensor]:
    weights = dict(family.backbone().export_state())
    for name, addition in state.items():
        weights[f"{name}.weight"] = addition.applied(weights[f"{name}.weight"]).float()
    return weights


def added_to(found) -> set[str]:
    return {
        prefix + name
        for prefix, network in found.items()
        for name, module in network.named_modules()
        if isinstance(module, LoraLayer)
    }


def same(family, found, state) -> None:
    ours, base = (
        outputs(family, networks(family, w)) for w in (merged(family, state), family.backbone().export_state())
    )
    for theirs, expected, before in zip(outputs(family, found), ours, base, strict=True):
        assert (expected - before).norm() > 0.02 * before.norm(), "the additions say nothing"
        torch.testing.assert_close(theirs, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def with_magnitudes(family, state) -> dict[str, LowRank]:
    weights = family.backbone().export_state()
    return {
        name: LowRank(
            a.down,
            a.up,
            a.alpha,
            weights[f"{name}.weight"].flatten(1).norm(dim=1) * torch.linspace(0.8, 1.3, a.up.shape[0]),
        )
        for name, a in state.items()
    }


@pytest.mark.parametrize("dora", [False, True])
def test_diffusers_loads_every_key_and_says_what_base_plus_delta_says(family, said, tmp_path, dora):
    state = small(random_lora(family))
    state = with_magnitudes(family, state) if dora else state
    file = tmp_path / "lora.safetensors"
    write_lora(file, state, family=family.name, dialect="diffusers", dtype=torch.float32, metadata={})
    found = networks(family, family.backbone().export_state())
    pipe = pipeline_of(family, found)
    said.clear()
    pipe.load_lora_weights(str(tmp_path), weight_name=file.name)
    assert [line for line in said if "found with the prefix='text_encoder" not in line] == []  # there is no such part
    assert added_to(found) == state.keys()
    same(family, found, state)


@pytest.mark.parametrize("dora", [False, True])
def test_peft_loads_the_folder_onto_diffusers_networks(family, recwarn, tmp_path, dora):
    state = small(random_lora(family))
    state = with_magnitudes(family, state) if dora else state
    write_lora(tmp_path / "p", state, family=family.name, dialect="peft", dtype=torch.float32, metadata={})
    found = networks(family, family.backbone().export_state())
    inner = {"text_conditioner.": "text_conditioner"}
    wrapped = {
        prefix: PeftModel.from_pretrained(network, tmp_path / "p" / inner.get(prefix, "")).eval()
        for prefix, network in found.items()
    }
    assert [w for w in recwarn if "missing" in str(w.message) or "unexpected" in str(w.message)] == []
    assert added_to(found) == state.keys()
    same(family, {prefix: network.base_model.model for prefix, network in wrapped.items()}, state)


def test_what_diffusers_saves_is_read_with_the_alpha_of_its_header(family, tmp_path):
    """It keeps alphas where no other program looks."""
    if family.name != "sd35":
        pytest.skip("diffusers cannot save such a LoRA")
    state = small(random_lora(family))
    write_lora(tmp_path / "p", state, family=family.name, dialect="peft", dtype=torch.float32, metadata={})
    found = networks(family, family.backbone().export_state())
    wrapped = PeftModel.from_pretrained(found[""], tmp_path / "p").base_model.model
    saved = {f"transformer.{k}": v for k, v in lora_tensors(wrapped).items()}
    config = wrapped.peft_config["default"].to_dict() if hasattr(wrapped, "peft_config") else None
    assert saved and config
    StableDiffusion3Pipeline.save_lora_weights(
        tmp_path / "theirs", transformer_lora_layers=lora_tensors(wrapped), transformer_lora_adapter_metadata=config
    )
    file = read_lora(tmp_path / "theirs" / "pytorch_lora_weights.safetensors")
    assert (file.family, file.dialect) == ("sd35", "diffusers")
    for name, addition in state.items():
        assert (file.state[name].delta() - addition.delta()).norm() <= 1e-6 * addition.delta().norm()


def lora_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{part}.weight": getattr(module, part)["default"].weight.detach()
        for name, module in network.named_modules()
        if isinstance(module, LoraLayer)
        for part in ("lora_A", "lora_B")
    }
