"""Names of LoRA files: against the tables of whole files, and against ComfyUI's rules, written down here a second time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from contract import random_lora
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor

from animeflow.core.errors import ConfigError, DataError
from animeflow.core.seed import normal
from animeflow.model import registry
from animeflow.model.low_rank import LowRank
from animeflow.model.low_rank_stack import stacked, unstacked

FAMILIES = ("anima", "sd35")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return registry.constructor(request.param)("tiny")


@pytest.fixture(scope="module")
def state(family):
    return random_lora(family)


@pytest.fixture(scope="module")
def original(family) -> dict[str, Tensor]:
    return original_of(family, family.backbone().export_state())


def original_of(family, weights) -> dict[str, Tensor]:
    """Weights under the names that ComfyUI's network has, which are the released file's without a prefix."""
    if family.name == "sd35":
        from animeflow.model.sd35.keymap import to_original

        return to_original(weights)
    from animeflow.model.anima.keymap import to_released

    return to_released(weights)


def comfyui(weights: dict[str, Tensor], lora: dict[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """What ComfyUI makes of the weights, float64, by its published rules for the network's own names, and the keys that it used.

    For each weight `X.weight` of the network it looks for `diffusion_model.X` and for `lora_unet_` with X's dots as underscores;
    up @ down is scaled by alpha over the rows of down, or by 1.
    """
    used, changed = set(), {}
    for name, weight in weights.items():
        changed[name] = weight.double()
        bare = name.removesuffix(".weight")
        for stem in (f"diffusion_model.{bare}", f"lora_unet_{bare.replace('.', '_')}"):
            for a, b in (("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight")):
                if name.endswith(".weight") and f"{stem}.{b}" in lora:
                    down, up = lora[f"{stem}.{a}"].double(), lora[f"{stem}.{b}"].double()
                    alpha = lora.get(f"{stem}.alpha")
                    scale = 1.0 if alpha is None else float(alpha) / down.shape[0]
                    changed[name] = changed[name] + scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
                    used |= {f"{stem}.{a}", f"{stem}.{b}"} | ({f"{stem}.alpha"} if alpha is not None else set())
    return changed, used


def merged(family, state) -> dict[str, Tensor]:
    weights = {name: tensor.double() for name, tensor in family.backbone().export_state().items()}
    for name, addition in state.items():
        weights[f"{name}.weight"] = addition.applied(weights[f"{name}.weight"])
    return original_of(family, weights)


@pytest.mark.parametrize("name", ["kohya", "comfyui"])
def test_comfyui_uses_every_key_and_gets_base_plus_delta(family, state, original, name):
    lora = family.dialects()[name].write(state)
    found, used = comfyui(original, lora)
    assert used == lora.keys()
    for key, weight in merged(family, state).items():
        torch.testing.assert_close(found[key], weight, rtol=1e-6, atol=1e-6)


def test_what_diffusers_reads_of_anima_comfyui_reads_alike():
    family = registry.constructor("anima")("tiny")
    state = random_lora(family)
    lora = family.dialects()["diffusers"].write(state)
    assert not any(key.endswith(".alpha") for key in lora)
    found, used = comfyui(original_of(family, family.backbone().export_state()), lora)
    assert used == lora.keys()
    for key, weight in merged(family, state).items():
        torch.testing.assert_close(found[key], weight, rtol=1e-6, atol=1e-6)


def test_kohyas_names_are_those_of_the_original_file(family, state, original):
    lora = family.dialects()["kohya"].write(state)
    known = {
        f"lora_unet_{key.removesuffix('.weight').replace('.', '_')}" for key in original if key.endswith(".weight")
    }
    assert {key.split(".")[0] for key in lora} <= known
    stems = {key.split(".")[0] for key in lora}
    assert all(f"{stem}.{end}" in lora for stem in stems for end in ("lora_down.weight", "lora_up.weight", "alpha"))


@pytest.mark.parametrize("name", ["kohya", "comfyui", "diffusers", "peft"])
def test_bf16_rounds_and_does_nothing_worse(family, state, name):
    dialect = family.dialects()[name]
    rounded = {k: v if k.endswith(".alpha") else v.bfloat16() for k, v in dialect.write(state).items()}
    found = dialect.read(rounded)
    for layer, addition in state.items():
        expected = addition.delta()
        assert (found[layer].delta() - expected).norm() <= 2**-7 * expected.norm()


def test_a_dialect_knows_its_own_files_and_no_other_familys(state, family):
    others = [name for name in FAMILIES if name != family.name]
    for dialect in family.dialects().values():
        tensors = dialect.write(state)
        known = [name for name, other in family.dialects().items() if other.matches(tensors)]
        assert dialect.name == known[0]
        for other in others:
            assert not any(d.matches(tensors) for d in registry.constructor(other).dialects().values())


ALIASES = {  # family -> (dialect that writes, (from, to) in every key, dialect that reads)
    "sd35": [
        ("comfyui", ".lora_A.weight", ".lora_A.default.weight", "comfyui"),
        ("comfyui", ".lora_B.weight", ".lora_B", "comfyui"),
        ("comfyui", ".lora_A.weight", ".lora.down.weight", "comfyui"),
        ("comfyui", ".lora_B.weight", ".lora_up.weight", "comfyui"),
        ("comfyui", "diffusion_model.", "", "comfyui"),
        ("diffusers", "transformer.t", "t", "diffusers"),
        ("diffusers", ".lora_B.weight", ".lora_linear_layer.up.weight", "diffusers"),
        ("peft", ".lora_B.weight", ".lora_B.default.weight", "peft"),
    ],
    "anima": [
        ("diffusers", "diffusion_model.", "net.", "diffusers"),
        ("comfyui", ".lora_A.weight", ".lora_down.weight", "comfyui"),
        ("comfyui", "diffusion_model.", "", "comfyui"),
    ],
}


@pytest.mark.parametrize(("name", "alias"), [(name, alias) for name, some in ALIASES.items() for alias in some])
def test_other_spellings_are_read(name, alias):
    writer, ours, theirs, reader = alias
    family = registry.constructor(name)("tiny")
    blocks = {layer: a for layer, a in random_lora(family).items() if "transformer_blocks." in layer}
    tensors = {key.replace(ours, theirs, 1): t for key, t in family.dialects()[writer].write(blocks).items()}
    assert tensors.keys() != family.dialects()[writer].write(blocks).keys()
    first = next(dialect for dialect in family.dialects().values() if dialect.matches(tensors))
    assert first.name == reader
    same(first.read(tensors), blocks)


@pytest.mark.parametrize("prefix", ["lora_transformer_", "lycoris_"])
def test_underscored_names_of_diffusers_are_read(prefix):
    """OneTrainer's and LyCORIS' spelling of SD3; ComfyUI puts the thirds into its joined layer."""
    family = registry.constructor("sd35")("tiny")
    state = random_lora(family)
    tensors = {}
    for layer, addition in state.items():
        stem = prefix + layer.replace(".", "_")
        tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"] = addition.down, addition.up
        tensors[f"{stem}.alpha"] = torch.tensor(addition.alpha)
    same(family.dialects()["kohya"].read(tensors), state)


def test_animas_networks_are_read_in_the_names_of_their_folders():
    """What diffusers loads, too, and ComfyUI drops without a word."""
    family = registry.constructor("anima")("tiny")
    state = random_lora(family)
    tensors = {}
    for layer, addition in state.items():
        tensors[f"{layer}.lora_A.weight"], tensors[f"{layer}.lora_B.weight"] = (
            addition.down,
            addition.up * addition.scale,
        )
    assert [name for name, dialect in family.dialects().items() if dialect.matches(tensors)] == ["diffusers"]
    same(family.dialects()["diffusers"].read(tensors), state)


@pytest.mark.parametrize("dora", [False, True])
def test_layers_have_the_same_names_when_they_have_additions(family, dora):
    """A LoRA is read from a network by the names that it was added by."""
    network = family.outline()
    before = family.lora_layers(network)
    config = LoraConfig(r=2, target_modules=list(before.values())[::2], use_dora=dora)
    inject_adapter_in_model(config, network)
    assert family.lora_layers(network) == before
    assert isinstance(network.get_submodule(next(iter(before.values()))), LoraLayer)


def test_without_alpha_the_scale_is_one(family, state):
    tensors = {k: v for k, v in family.dialects()["kohya"].write(state).items() if not k.endswith(".alpha")}
    assert {addition.scale for addition in family.dialects()["kohya"].read(tensors).values()} == {1.0}


def test_a_shared_pair_is_split_without_loss():
    """What kohya's scripts train: one A for queries, keys and values. Each part keeps the whole rank, so nothing has to go."""
    kohya = registry.constructor("sd35").dialects()["kohya"]
    stem, rank = "lora_unet_joint_blocks_1_x_block_attn_qkv", 4
    down, up = normal((rank, 96), "down"), normal((288, rank), "up")
    state = kohya.read(
        {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(2.0)}
    )
    layers = [f"transformer_blocks.1.attn.to_{axis}" for axis in "qkv"]
    assert list(state) == layers
    expected = 0.5 * up.double() @ down.double()
    assert torch.equal(torch.cat([state[layer].delta() for layer in layers]), expected)
    assert {addition.rank for addition in state.values()} == {rank}
    again = kohya.read(kohya.write(state))
    torch.testing.assert_close(torch.cat([again[layer].delta() for layer in layers]), expected, rtol=1e-6, atol=1e-6)


def test_split_qkv_is_read_as_every_program_reads_it():
    """kohya's `split_qkv=True` trains each third at alpha / r and saves alpha beside a rank of 3r: a third of it is left, for its
    own loader as for ComfyUI. Who wants it as trained has to triple alpha."""
    kohya = registry.constructor("sd35").dialects()["kohya"]
    parts = [LowRank(normal((2, 96), "down", i), normal((96, 2), "up", i), alpha=1.0) for i in range(3)]
    whole = stacked(parts, what="qkv")
    stem = "lora_unet_joint_blocks_0_context_block_attn_qkv"
    saved = {
        f"{stem}.lora_down.weight": whole.down,
        f"{stem}.lora_up.weight": whole.up,
        f"{stem}.alpha": torch.tensor(1.0),
    }
    found = kohya.read(saved)
    for index, axis in enumerate("qkv"):
        addition = found[f"transformer_blocks.0.attn.add_{axis}_proj"]
        assert addition.rank == 2
        torch.testing.assert_close(addition.delta(), parts[index].delta() / 3)


@pytest.mark.parametrize("ranks", [(2, 2, 2), (1, 4, 2), (3, None, None), (None, 2, 2), (None, None, 1)])
def test_stacking_and_its_inverse(ranks):
    """Ranks and scales of the parts differ; a part without an addition stays without."""
    parts = [
        None if rank is None else LowRank(normal((rank, 5), "d", i), normal((7, rank), "u", i), alpha=0.7 + i)
        for i, rank in enumerate(ranks)
    ]
    whole = stacked(parts, what="test")
    assert whole.rank == sum(rank or 0 for rank in ranks)
    deltas = torch.cat([torch.zeros(7, 5).double() if part is None else part.delta() for part in parts])
    torch.testing.assert_close(whole.delta(), deltas, rtol=1e-6, atol=1e-6)
    found = unstacked(whole, 3, what="test")
    assert [part and part.rank for part in found] == list(ranks)
    for part, expected in zip(found, parts, strict=True):
        if expected is not None:
            torch.testing.assert_close(part.delta(), expected.delta(), rtol=1e-6, atol=1e-6)
            assert torch.equal(part.down, expected.down)


def test_equal_parts_are_joined_as_kohya_writes_them():
    parts = [LowRank(normal((4, 8), "d", i), normal((8, 4), "u", i), alpha=3.0) for i in range(3)]
    whole = stacked(parts, what="test")
    assert (whole.down.shape, whole.up.shape, whole.alpha) == ((12, 8), (24, 12), 9.0)
    assert not whole.up[:8, 4:].any() and torch.equal(whole.up[8:16, 4:8], parts[1].up)


def test_additions_that_have_learned_nothing_come_back():
    parts = [LowRank(normal((2, 5), "d", i), torch.zeros(7, 2), alpha=2.0) for i in range(3)]
    found = unstacked(stacked(parts, what="test"), 3, what="test")
    assert all(torch.equal(part.down, expected.down) for part, expected in zip(found, parts, strict=True))


def test_magnitudes_are_joined_and_swapped_with_their_rows(family, state, original):
    """DoRA scales rows; they have to be the rows of the layer that the file means."""
    weights = family.backbone().export_state()
    long = {name: replace(a, magnitude=1 + torch.rand(a.up.shape[0])) for name, a in state.items()}
    for name in ("kohya", "comfyui", "diffusers", "peft"):
        dialect = family.dialects()[name]
        found = dialect.read(dialect.write(long))
        assert all(torch.equal(found[layer].magnitude, long[layer].magnitude) for layer in long)
    applied = merged(family, long)
    lora = family.dialects()["comfyui"].write(long)
    changed, _ = comfyui(original, lora)
    for key, length in lora.items():
        if key.endswith(".dora_scale"):
            name = key.removeprefix("diffusion_model.").replace(".dora_scale", ".weight")
            norm = changed[name].flatten(1).norm(dim=1).reshape(length.shape)
            torch.testing.assert_close(changed[name] * length / norm, applied[name], rtol=1e-5, atol=1e-6)
    assert weights.keys() == family.backbone().export_state().keys()


def test_magnitudes_of_some_layers_only():
    dialects = registry.constructor("sd35").dialects()
    q = {"transformer_blocks.0.attn.to_q": LowRank(torch.ones(1, 4), torch.ones(4, 1), 1.0, torch.ones(4))}
    k = {"transformer_blocks.0.attn.to_k": LowRank(torch.ones(1, 4), torch.ones(4, 1), 1.0)}
    out = {"transformer_blocks.0.attn.to_out.0": LowRank(torch.ones(1, 4), torch.ones(4, 1), 1.0)}
    with pytest.raises(ConfigError, match="1 of the 3 parts"):
        dialects["kohya"].write(q | k)
    with pytest.raises(ConfigError, match="kohya or comfyui"):
        dialects["peft"].write(q | out)
    with pytest.raises(ConfigError, match="for all layers of a file or for none"):
        dialects["diffusers"].write(q | out)


def test_what_programs_do_otherwise_is_said(family, state):
    """Nothing to say about plain additions to the blocks; DoRA is exact in diffusers and peft only."""
    blocks = {layer: addition for layer, addition in state.items() if "transformer_blocks." in layer}
    long = {layer: replace(addition, magnitude=torch.ones(addition.up.shape[0])) for layer, addition in blocks.items()}
    dialects = family.dialects()
    assert not any(dialect.notes(blocks) for dialect in dialects.values())
    assert {name for name, dialect in dialects.items() if dialect.notes(long)} == {"kohya", "comfyui", "diffusers"}
    assert (
        len(
            registry.constructor("anima")
            .dialects()["kohya"]
            .notes(dict.fromkeys(["text_conditioner.out_proj"], next(iter(blocks.values()))))
        )
        == 1
    )


KINDS = {
    "x.hada_w1_a": "LoHa",
    "x.lokr_w1": "LoKr",
    "x.oft_blocks": "OFT",
    "x.diff_b": "whole differences",
    "x.lora_mid.weight": "LoCon",
    "x.a1.weight": "GLoRA",
    "x.lora_B.bias": "biases",
}


@pytest.mark.parametrize(("key", "kind"), KINDS.items())
def test_other_kinds_are_named(family, key, kind):
    with pytest.raises(DataError, match=f"{kind}.*not supported"):
        family.dialects()["kohya"].read({key: torch.zeros(2)})


def test_nothing_is_passed_over(family, state):
    dialect = family.dialects()["kohya"]
    tensors = dialect.write(state)
    up = next(key for key in tensors if key.endswith("lora_up.weight"))
    with pytest.raises(DataError, match="lack their other half"):
        dialect.read({key: tensor for key, tensor in tensors.items() if key != up})
    with pytest.raises(DataError, match=r"1 keys belong to no layer: 'lora_unet_nowhere\.lora_up\.weight'"):
        dialect.read({**tensors, "lora_unet_nowhere.lora_up.weight": torch.zeros(2, 2)})
    with pytest.raises(DataError, match="do not fit together"):
        dialect.read({**tensors, up: torch.zeros(4, 99)})
    with pytest.raises(DataError, match="are the same"):
        dialect.read({**tensors, up.replace("lora_up", "lora_B"): tensors[up]})
    with pytest.raises(ConfigError, match=r"no names for 1 layers: 'elsewhere\.0'"):
        dialect.write({**state, "elsewhere.0": LowRank(torch.ones(1, 2), torch.ones(2, 1), 1.0)})


def test_the_presets_are_as_many_numbers_as_published():
    """Per rank, in millions: docs and plans rest on these."""
    from fnmatch import fnmatchcase

    published = {("sd35", "default"): 1.47, ("sd35", "all"): 2.04, ("anima", "default"): 1.43}
    flavours = {"sd35": "medium", "anima": "base"}
    for (name, preset), expected in published.items():
        family = registry.constructor(name)(flavours[name], random_weights=True)
        outline = family.outline()
        shapes = [
            outline.get_submodule(path).weight.shape
            for layer, path in family.lora_layers(outline).items()
            if any(fnmatchcase(layer, pattern) for pattern in family.lora_targets[preset])
        ]
        assert sum(out + into for out, into in shapes) / 1e6 == pytest.approx(expected, abs=0.005)


def same(found, expected) -> None:
    assert found.keys() == expected.keys()
    for layer, addition in expected.items():
        delta = addition.delta()
        assert (found[layer].delta() - delta).norm() <= 1e-6 * delta.norm()
