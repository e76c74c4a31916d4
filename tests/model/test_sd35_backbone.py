"""SD3.5's backbone against diffusers' own network, real sizes, masks, memory and files."""

from __future__ import annotations

import pytest
import torch
from contract import stir
from diffusers import SD3Transformer2DModel
from safetensors.torch import save_file

from animeflow.core import seed
from animeflow.core.conditioning import Conditioning
from animeflow.core.errors import ConfigError, DataError
from animeflow.model.names import prefixed
from animeflow.model.sd35 import sizes
from animeflow.model.sd35.backbone import Backbone
from animeflow.model.sd35.family import SD35
from animeflow.model.sd35.keymap import DIFFUSION, to_original
from animeflow.model.sd35.shapes import SHAPES, shape


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    network = Backbone.random(shape("tiny"), seed=0)
    stir(network)
    return network


def inputs(batch: int = 3, tokens: int = 20) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    x_BChw = seed.normal((batch, 16, 8, 12), 0, "x")
    cond = Conditioning(
        {"text": seed.normal((batch, tokens, 128), 0, "text"), "pooled": seed.normal((batch, 128), 0, "pooled")}
    )
    return x_BChw, torch.linspace(0.013, 0.987, batch), cond


def test_velocity_equals_diffusers_at_1000_t(backbone):
    x_BChw, t_B, cond = inputs()
    theirs = SD3Transformer2DModel(**shape("tiny").config())
    theirs.load_state_dict(backbone.export_state())
    with torch.no_grad():
        expected = theirs(x_BChw, cond["text"], cond["pooled"], timestep=1000 * t_B).sample
        torch.testing.assert_close(backbone(x_BChw, t_B, cond), expected, rtol=1e-5, atol=1e-5)


def test_an_all_true_mask_changes_nothing(backbone):
    x_BChw, t_B, cond = inputs()
    masked = Conditioning({**cond, "text_mask": torch.ones(3, 20, dtype=torch.bool)})
    with torch.no_grad():
        torch.testing.assert_close(backbone(x_BChw, t_B, masked), backbone(x_BChw, t_B, cond), rtol=1e-4, atol=1e-5)


def test_masked_text_is_not_seen_whatever_it_holds(backbone):
    x_BChw, t_B, cond = inputs()
    mask = torch.arange(20)[None, :] < torch.tensor([20, 11, 5])[:, None]
    filled = torch.where(mask[..., None], cond["text"], torch.full_like(cond["text"], 100.0))
    with torch.no_grad():
        batch = backbone(x_BChw, t_B, Conditioning({"text": filled, "pooled": cond["pooled"], "text_mask": mask}))
        for row, length in enumerate([20, 11, 5]):
            alone = cond.rows(slice(row, row + 1))
            short = Conditioning({"text": alone["text"][:, :length], "pooled": alone["pooled"]})
            one = backbone(x_BChw[row : row + 1], t_B[row : row + 1], short)
            torch.testing.assert_close(batch[row : row + 1], one, rtol=1e-4, atol=1e-5)


def test_a_fresh_network_is_still_and_the_same_everywhere():
    first, second = (Backbone.random(shape("tiny"), seed=3) for _ in range(2))
    with torch.no_grad():
        assert not first(*inputs()).any()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = Backbone.random(shape("tiny"), seed=4)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Backbone.random(shape("tiny"), seed=0)
    SD35("tiny", vocabulary=["blue"]).text_tower()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("flavour", "parameters"), [("medium", 2_243_171_520), ("large", 8_056_627_520)])
def test_real_flavours_have_the_published_size(flavour, parameters):
    assert sizes.backbone_parameters(shape(flavour)) == parameters


def test_real_shapes_are_those_of_the_model_cards():
    medium, large = SHAPES["medium"], SHAPES["large"]
    assert (medium.num_layers, medium.width, len(medium.dual_attention_layers)) == (24, 1536, 13)
    assert (large.num_layers, large.width, len(large.dual_attention_layers)) == (38, 2432, 0)
    assert all(found.width == 64 * found.num_layers for found in SHAPES.values())


def test_blocks_are_the_networks_blocks(backbone):
    assert len(backbone.blocks()) == 3
    inside = {id(parameter) for parameter in backbone.parameters()}
    assert {id(parameter) for block in backbone.blocks() for parameter in block.parameters()} < inside


@pytest.mark.parametrize("size", [(7, 8), (8, 66)])
def test_a_picture_that_does_not_fit_is_refused_with_its_size(backbone, size):
    with pytest.raises(ConfigError, match=f"{size[0]}x{size[1]} cells"):
        backbone(torch.zeros(1, 16, *size), torch.ones(1), inputs(1)[2])


def test_export_state_has_diffusers_names_and_loads_back(backbone):
    state = backbone.export_state()
    assert state.keys() == SD3Transformer2DModel(**shape("tiny").config()).state_dict().keys()
    other = Backbone.random(shape("tiny"), seed=9)
    other.load_export_state(state)
    assert all(torch.equal(state[name], tensor) for name, tensor in other.export_state().items())


def test_foreign_weights_are_refused_before_anything_is_loaded(backbone):
    state = {name: tensor.clone() for name, tensor in backbone.export_state().items()}
    other = Backbone.random(shape("tiny"), seed=9)
    before = {name: tensor.clone() for name, tensor in other.export_state().items()}
    for broken in (
        {name: tensor for name, tensor in state.items() if name != "proj_out.bias"},
        {**state, "extra.weight": torch.zeros(1)},
        {**state, "proj_out.bias": torch.zeros(3)},
    ):
        with pytest.raises(DataError, match="another network"):
            other.load_export_state(broken)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.export_state().items())


@pytest.mark.parametrize("form", ["folder", "pipeline", "single", "bare", "diffusers names"])
def test_weights_load_from_every_form_bit_for_bit(backbone, form, tmp_path):
    state = {name: tensor.contiguous() for name, tensor in backbone.export_state().items()}
    path = tmp_path / "model.safetensors"
    if form in ("folder", "pipeline"):
        path = tmp_path
        backbone.net.save_pretrained(tmp_path / "transformer" if form == "pipeline" else tmp_path)
    elif form == "single":
        save_file(prefixed(to_original(state), DIFFUSION), path)
    elif form == "bare":
        save_file(to_original(state), path)
    else:
        save_file(state, path)
    family = SD35("tiny", weights=path)
    assert family.shape.num_layers == 3
    loaded = family.backbone().export_state()
    assert all(torch.equal(state[name], loaded[name]) for name in state)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in family.backbone().parameters())


def test_half_precision_files_become_float32_master_weights(backbone, tmp_path):
    half = {name: tensor.bfloat16() for name, tensor in to_original(backbone.export_state()).items()}
    save_file(half, tmp_path / "model.safetensors")
    family = SD35("tiny", weights=tmp_path / "model.safetensors")
    assert {parameter.dtype for parameter in family.backbone().parameters()} == {torch.float32}


def test_the_file_tells_the_size_and_must_be_the_flavour(backbone, tmp_path):
    larger = Backbone.random(shape("tiny", num_layers=4, num_attention_heads=4, joint_attention_dim=96), seed=0)
    larger.net.save_pretrained(tmp_path)
    assert SD35("tiny", weights=tmp_path).shape == larger_shape(larger)
    with pytest.raises(ConfigError, match="num_layers 4 instead of 24"):
        SD35("medium", weights=tmp_path)
    with pytest.raises(ConfigError, match="num_layers 4 instead of 2"):
        SD35("tiny", weights=tmp_path, depth=2)


def larger_shape(network: Backbone):
    config = network.net.config
    return shape(
        "tiny",
        num_layers=config.num_layers,
        num_attention_heads=config.num_attention_heads,
        joint_attention_dim=config.joint_attention_dim,
    )


@pytest.mark.parametrize("flavour", ["medium", "large"])
def test_real_flavours_do_not_start_from_nothing_by_accident(flavour):
    family = SD35(flavour)
    for part in (family.backbone, family.codec, family.text_tower):
        with pytest.raises(ConfigError, match=f"sd35/{flavour} has no"):
            part()


def test_unknown_flavours_and_blocks_are_named():
    with pytest.raises(ConfigError, match="did you mean 'medium'"):
        SD35("medum")
    with pytest.raises(ConfigError, match="only 2 blocks"):
        SD35("tiny", depth=2, dual_attention_layers=(0, 2))
    with pytest.raises(ConfigError, match="no weights at"):
        SD35("tiny", weights="nowhere.safetensors")
