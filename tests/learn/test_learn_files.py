"""LoRA files on disk: what is read is what was written, family and dialect are told by names, and nothing broken gets through."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from contract import random_lora

from animeflow.core.errors import ConfigError, DataError
from animeflow.learn import files as module
from animeflow.learn.files import check_same, read_lora, write_lora
from animeflow.learn.peft_folder import alphas_of
from animeflow.model import registry
from animeflow.model.low_rank import LowRank

FAMILIES = ("anima", "sd35")
EVERY = [(family, dialect) for family in FAMILIES for dialect in registry.constructor(family).dialects()]
META = {"ss_network_dim": "4", "animeflow.trigger": "toon"}


@pytest.fixture(scope="module")
def states():
    return {name: random_lora(registry.constructor(name)("tiny")) for name in FAMILIES}


def written(tmp_path: Path, state, family: str, dialect: str, dtype=torch.float32) -> Path:
    path = tmp_path / ("lora" if dialect == "peft" else "lora.safetensors")
    files = write_lora(path, state, family=family, dialect=dialect, dtype=dtype, metadata=META)
    assert sorted(file for file in tmp_path.rglob("*") if file.is_file()) == sorted(files)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("family", "dialect"), EVERY)
def test_reading_gives_back_what_was_written(states, tmp_path, family, dialect, dtype):
    path = written(tmp_path, states[family], family, dialect, dtype)
    found = read_lora(path)
    assert (found.family, found.dialect, found.dtype, found.path) == (family, dialect, dtype, path)
    assert found.metadata.items() >= META.items()
    assert found.text_encoder_keys == ()
    assert found.state.keys() == states[family].keys()
    tolerance = 1e-6 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    for name, addition in states[family].items():
        delta = addition.delta()
        assert (found.state[name].delta() - delta).norm() <= tolerance * delta.norm()
        assert found.state[name].down.dtype == torch.float32


@pytest.mark.parametrize("dialect", ["kohya", "comfyui", "peft"])
def test_a_scale_is_never_rounded(states, tmp_path, dialect):
    """Alphas of 77.3 in bf16 would be 77.5, and every layer a quarter of a percent too loud."""
    state = {name: replace(addition, alpha=77.3) for name, addition in states["anima"].items()}
    found = read_lora(written(tmp_path, state, "anima", dialect, torch.bfloat16)).state
    assert all(found[name].alpha == pytest.approx(77.3, rel=1e-7) for name in state)


def test_peft_folders_are_read_by_any_of_their_paths(states, tmp_path):
    folder = written(tmp_path, states["sd35"], "sd35", "peft")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["rank_pattern"] and config["alpha_pattern"]
    for path in (folder, folder / "adapter_model.safetensors"):
        check_same(states["sd35"], read_lora(path).state, where="test")


@pytest.mark.parametrize("family", FAMILIES)
def test_only_folders_that_a_dialect_names_are_second_networks(states, tmp_path, family):
    """peft's trainers leave `checkpoint-500` in the folder of the result."""
    folder = written(tmp_path, states[family], family, "peft")
    inner = {path.parent.name for path in folder.glob("*/adapter_config.json")}
    assert inner == ({"text_conditioner"} if family == "anima" else set())
    for name in ("checkpoint-500", ".text_conditioner", "text_conditioner.old"):
        shutil.copytree(folder, folder / name, ignore=lambda *_: {"checkpoint-500", ".text_conditioner"})
    check_same(states[family], read_lora(folder).state, where="test")
    outer = tmp_path / "outer"
    outer.mkdir()
    (folder / "checkpoint-500").rename(outer / "checkpoint-500")
    with pytest.raises(ConfigError, match="give the LoRA file itself"):
        read_lora(outer)
    check_same(states[family], read_lora(outer / "checkpoint-500").state, where="test")


def test_pefts_rules_for_alphas():
    tensors = {f"base_model.model.{name}.lora_A.weight": torch.zeros(4, 2) for name in ("a.b", "a.c", "x.a.b", "d")}
    config = {"peft_type": "LORA", "lora_alpha": 8, "alpha_pattern": {"a.b": 3, "^a.c": 5}, "use_rslora": True}
    found = {
        key.removeprefix("base_model.model."): float(a) for key, a in alphas_of(config, tensors, where="test").items()
    }
    assert found == {"a.b.alpha": 6.0, "x.a.b.alpha": 6.0, "a.c.alpha": 10.0, "d.alpha": 16.0}  # times sqrt(rank)
    with pytest.raises(DataError, match="LOKR is not supported"):
        alphas_of({"peft_type": "LOKR"}, tensors, where="test")
    for broken in ({"lora_alpha": None}, {}, {"lora_alpha": 10**400}, {"lora_alpha": 1, "alpha_pattern": [1]}):
        with pytest.raises(DataError, match="no settings of a LoRA"):
            alphas_of(broken, tensors, where="test")


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(", "a+", "a*b", "[ab]", "a{2}", r"\d", "a?", "(?i)a", "", "a||b", "a\n", "*", "\\"]
)
def test_expressions_of_a_stranger_are_not_run(pattern):
    tensors = {f"base_model.model.{'a' * 20}.lora_A.weight": torch.zeros(4, 2)}
    with pytest.raises(DataError, match="not run here"):
        alphas_of({"alpha_pattern": {pattern: 1}, "lora_alpha": 1}, tensors, where="test")


def test_no_number_of_stars_takes_long():
    """As a plain expression this would take more steps than there are atoms."""
    tensors = {f"{'a' * 500}.lora_A.weight": torch.zeros(1, 2)}
    found = alphas_of({"alpha_pattern": {".*a" * 60 + ".*b": 2}, "lora_alpha": 1}, tensors, where="test", before="")
    assert [float(alpha) for alpha in found.values()] == [1.0]


def test_pefts_rules_are_those_of_peft():
    """The same patterns through the library."""
    from peft.utils.other import get_pattern_key

    patterns = {
        "blocks.1.to_q": 2.0, "^to_q": 3.0, "to_k|to_v": 4.0, r"a\.b": 5.0, "c.d": 6.0, r"^e\..*\.g$": 7.0, "h.*i.*j|^k.*": 8.0,
        ".*-x": 9.0,
    }  # fmt: skip
    names = ["a.b", "aab", "x.a.b", "cad", "c.d", "c.dd", "e.f.g", "e.g", "x.e.f.g", "e.f.gg", "hij", "a.h.i.i.j", "hji", "k",
             "kk.l", "a.k", "aa-x", "-x", "a.-x.b"]  # fmt: skip
    names += ["blocks.1.to_q", "a.blocks.1.to_q", "to_q", "blocks.11.to_q", "a.to_k", "to_v", "b.ato_v"]
    tensors = {f"{name}.lora_A.weight": torch.zeros(1, 2) for name in names}
    found = alphas_of({"lora_alpha": 1.0, "alpha_pattern": patterns}, tensors, where="test", before="")
    assert found == {f"{name}.alpha": patterns.get(get_pattern_key(patterns, name), 1.0) for name in names}


def test_the_header_of_diffusers_counts(states, tmp_path):
    state = {name: replace(addition, alpha=float(addition.rank)) for name, addition in states["sd35"].items()}
    path = written(tmp_path, state, "sd35", "diffusers")
    facts = {"transformer.lora_alpha": 3.0, "transformer.alpha_pattern": {}, "transformer.r": 4}
    save_file(load_file(path), path, metadata={"lora_adapter_metadata": json.dumps(facts)})
    assert {addition.alpha for addition in read_lora(path).state.values()} == {3.0}


def test_additions_to_text_encoders_are_told_and_not_in_the_state(states, tmp_path):
    path = written(tmp_path, states["sd35"], "sd35", "kohya")
    more = {
        f"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_{end}.weight": torch.ones(2, 2) for end in ("up", "down")
    }
    save_file(load_file(path) | more, path)
    found = read_lora(path)
    assert found.text_encoder_keys == tuple(sorted(more))
    assert found.state.keys() == states["sd35"].keys()
    save_file(more, path)
    with pytest.raises(DataError, match="adds to text encoders only: 'lora_te1"):
        read_lora(path)


def test_the_family_that_was_asked_for_must_be_the_files(states, tmp_path):
    path = written(tmp_path, states["anima"], "anima", "kohya")
    assert read_lora(path, family="anima").family == "anima"
    with pytest.raises(DataError, match="this is a LoRA for anima, not for sd35"):
        read_lora(path, family="sd35")


def test_names_that_two_families_share_need_a_word(tmp_path):
    path = tmp_path / "last.safetensors"
    save_file(
        {
            "lora_unet_final_layer_linear.lora_down.weight": torch.ones(1, 8),
            "lora_unet_final_layer_linear.lora_up.weight": torch.ones(4, 1),
        },
        path,
    )
    with pytest.raises(DataError, match="could be a LoRA for anima or sd35"):
        read_lora(path)
    assert list(read_lora(path, family="sd35").state) == ["proj_out"]
    assert list(read_lora(path, family="anima").state) == ["transformer.proj_out"]


@pytest.mark.parametrize("preset", ["default", "attention", "all"])
@pytest.mark.parametrize(("family", "dialect"), EVERY)
def test_the_family_of_every_preset_is_told_by_names_alone(states, tmp_path, family, dialect, preset):
    """In peft's words most layers of one family's blocks are called like some of the other's."""
    patterns = registry.constructor(family).lora_targets[preset]
    state = {name: a for name, a in states[family].items() if any(fnmatchcase(name, p) for p in patterns)}
    path = written(tmp_path, state, family, dialect)
    for file in path.rglob("*.safetensors") if path.is_dir() else [path]:
        save_file(load_file(file), file)  # without its header
    found = read_lora(path)
    assert (found.family, found.dialect) == (family, dialect)
    assert found.state.keys() == state.keys()


def test_our_header_tells_what_names_do_not(states, tmp_path):
    some = {name: a for name, a in states["anima"].items() if ".attn2." in name}
    path = written(tmp_path, some, "anima", "peft")
    assert read_lora(path).family == "anima"
    save_file(load_file(path / "adapter_model.safetensors"), path / "adapter_model.safetensors")
    with pytest.raises(DataError, match="could be a LoRA for anima or sd35"):
        read_lora(path)


def test_a_few_keys_that_do_not_belong_are_named(states, tmp_path):
    path = written(tmp_path, states["sd35"], "sd35", "kohya")
    more = {f"lora_unet_joint_blocks_0_new_layer.lora_{end}.weight": torch.ones(2, 2) for end in ("up", "down")}
    save_file(load_file(path) | more, path)
    with pytest.raises(DataError, match="2 keys belong to no layer: 'lora_unet_joint_blocks_0_new_layer"):
        read_lora(path)


STRANGERS = {
    "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": "a LoRA for FLUX",
    "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": "a LoRA for FLUX",
    "lora_unet_input_blocks_1_1_proj_in.lora_down.weight": "a LoRA for a U-Net",
    "joint_blocks.0.x_block.attn.qkv.weight": "Stable Diffusion 3.x, not like a LoRA",
    "what.is.this": "no names of a LoRA that we know; the first keys: 'what.is.this'",
    "lora_unet_blocks_0_mlp_layer1.lokr_w1": "LoKr is not supported",
}


@pytest.mark.parametrize(("key", "told"), STRANGERS.items())
def test_other_files_are_told_apart(tmp_path, key, told):
    path = tmp_path / "other.safetensors"
    save_file({key: torch.ones(2, 2)}, path)
    with pytest.raises(DataError) as caught:
        read_lora(path)
    assert told in caught.value.what
    assert caught.value.where == str(path)


@pytest.mark.parametrize("dialect", ["kohya", "peft"])
def test_a_broken_file_is_an_error_at_every_length(states, tmp_path, dialect):
    some = dict(list(states["sd35"].items())[:6])
    path = written(tmp_path, some, "sd35", dialect)
    file = path if path.is_file() else path / "adapter_model.safetensors"
    whole = file.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_lora(path)
    file.write_bytes(whole)
    check_same(some, read_lora(path).state, where="test")


def test_a_folder_of_peft_with_a_part_missing(states, tmp_path):
    folder = written(tmp_path, states["sd35"], "sd35", "peft")
    config = (folder / "adapter_config.json").read_text()
    (folder / "adapter_config.json").write_text(config[: len(config) // 2])
    with pytest.raises(DataError, match="no whole JSON"):
        read_lora(folder)
    (folder / "adapter_config.json").write_text(config)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(DataError, match="there is no adapter_model"):
        read_lora(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"r": ' + "9" * 5000 + "}"], ids=["deep", "long"])
def test_settings_of_peft_that_no_program_writes(states, tmp_path, text):
    folder = written(tmp_path / "a", states["sd35"], "sd35", "peft")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(DataError, match="no whole JSON"):
        read_lora(folder)
    path = written(tmp_path / "b", states["sd35"], "sd35", "diffusers")
    save_file(load_file(path), path, metadata={"lora_adapter_metadata": text})
    with pytest.raises(DataError, match="no whole JSON"):
        read_lora(path)


@pytest.mark.parametrize("name", ["lora.pt", "lora.ckpt", "adapter_model.bin"])
def test_nothing_is_unpickled(tmp_path, name, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *args, **options: pytest.fail("unpickled"))
    torch.save({"a": torch.ones(2)}, tmp_path / name)
    with pytest.raises(DataError, match="pickled"):
        read_lora(tmp_path / name)


def test_there_has_to_be_a_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_lora(tmp_path / "nothing.safetensors")
    with pytest.raises(ConfigError, match="found 0 safetensors files"):
        read_lora(tmp_path)


def test_writing_asks_for_sense_and_leaves_nothing_behind(states, tmp_path):
    options = {"family": "sd35", "dialect": "kohya", "dtype": torch.float32, "metadata": {}}
    state, path = states["sd35"], tmp_path / "lora.safetensors"
    with pytest.raises(ConfigError, match=r"unknown dialect 'koyha' \(did you mean 'kohya'\?\)"):
        write_lora(path, state, **options | {"dialect": "koyha"})
    with pytest.raises(ConfigError, match="there is no addition"):
        write_lora(path, {}, **options)
    with pytest.raises(ConfigError, match=r"does not end with \.safetensors"):
        write_lora(tmp_path / "lora.pt", state, **options)
    first, addition = next(iter(state.items()))
    for number in (float("nan"), float("inf")):
        broken = state | {first: replace(addition, down=addition.down * number)}
        for dialect in ("kohya", "peft"):
            with pytest.raises(DataError, match="not finite"):
                write_lora(path, broken, **options | {"dialect": dialect})
    with pytest.raises(DataError, match=r"does not fit into torch\.float16"):
        write_lora(
            path, state | {first: replace(addition, down=addition.down * 1e6)}, **options | {"dtype": torch.float16}
        )
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_keeps_the_old_file(states, tmp_path, monkeypatch):
    path = written(tmp_path, states["sd35"], "sd35", "kohya")
    before = path.read_bytes()

    def full(path, *args):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "write_tensors", full)
    with pytest.raises(OSError, match="no space"):
        written(tmp_path, states["sd35"], "sd35", "kohya")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_dialect_that_loses_something_is_found_out(states, tmp_path, monkeypatch):
    """The comparison before a file is written is not with itself."""
    dialect = registry.constructor("sd35").dialects()["comfyui"]
    reads = type(dialect).read

    def loses(self, tensors):
        state = reads(self, tensors)
        name = next(iter(state))
        return state | {name: replace(state[name], alpha=2 * state[name].alpha)}

    monkeypatch.setattr(type(dialect), "read", loses)
    with pytest.raises(DataError, match="1 layers do not come back"):
        written(tmp_path, states["sd35"], "sd35", "comfyui")
    assert list(tmp_path.iterdir()) == []


def test_magnitudes_survive_every_dialect(states, tmp_path):
    state = {name: replace(a, magnitude=1 + torch.rand(a.up.shape[0])) for name, a in states["sd35"].items()}
    for dialect in ("kohya", "comfyui", "diffusers", "peft"):
        found = read_lora(written(tmp_path / dialect, state, "sd35", dialect)).state
        assert all(torch.equal(found[name].magnitude, state[name].magnitude) for name in state)
    half = LowRank(torch.ones(1, 4), torch.ones(4, 1), 1.0)
    with pytest.raises(DataError, match="do not come back"):
        check_same({"a": half}, {"a": replace(half, magnitude=torch.ones(4))}, where="test")
