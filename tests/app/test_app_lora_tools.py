"""The verbs for LoRA files, from the command line: what they write adds the same, nothing of a user's is overwritten, and what
cannot be done is said, with an exit code and nothing left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from animeflow.app import lora_file
from animeflow.app.base_family import base_family
from animeflow.app.bases import tiny_base
from animeflow.app.cli import main
from animeflow.core.errors import DataError
from animeflow.core.files import sha256_file
from animeflow.learn.check import compare
from animeflow.learn.files import read_lora, write_lora
from animeflow.learn.metadata import lora_metadata
from animeflow.model import registry
from animeflow.model.low_rank import LowRank
from animeflow.model.tensor_file import read_metadata

FAMILIES = registry.names()


@pytest.fixture(scope="module")
def bases() -> dict[str, object]:
    return {name: base_family(tiny_base(name)) for name in FAMILIES}


@pytest.fixture(scope="module")
def states(bases) -> dict[str, dict[str, LowRank]]:
    return {name: additions(family) for name, family in bases.items()}


def additions(family, *, seed: int = 0, rank: int = 4) -> dict[str, LowRank]:
    outline = family.outline()
    weights, draw = outline.export_state(), torch.Generator().manual_seed(seed)
    layers = [name for name in family.lora_layers(outline) if "blocks." in name and ("attn" in name or "ff" in name)]
    return {
        name: LowRank(torch.randn(rank, weights[f"{name}.weight"].shape[1], generator=draw) * 0.05,
                      torch.randn(weights[f"{name}.weight"].shape[0], rank, generator=draw) * 0.05, 3.0)
        for name in layers
    }  # fmt: skip


@pytest.fixture
def made(tmp_path, bases, states):
    """A kohya file of each family."""

    def write(family: str, name: str = "mine", state=None, dtype=torch.float32, dialect="kohya") -> Path:
        path = tmp_path / f"{name}.safetensors"
        state = states[family] if state is None else state
        record = {"name": name, "trigger": f"{name}_word", "steps": 12}
        metadata = lora_metadata(bases[family], state, record, dialect=dialect)
        write_lora(path, state, family=family, dialect=dialect, dtype=dtype, metadata=metadata)
        return path

    return write


def call(*words: object) -> tuple[int, str]:
    """Exit code and all that was said."""
    result = CliRunner().invoke(main, ["lora", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("family", FAMILIES)
def test_convert_gives_every_program_the_same(family, made, states, bases, tmp_path):
    source = made(family)
    before = sha256_file(source)
    for dialect in bases[family].dialects():
        if dialect == "kohya":
            continue
        out = tmp_path / (f"mine_{dialect}" + ("" if dialect == "peft" else ".safetensors"))
        code, said = call("convert", source, "--to", dialect)
        assert code == 0 and "read by" in said, said
        found = read_lora(out)
        assert found.dialect == dialect
        assert compare(states[family], found.state) < 1e-6
        assert found.metadata["animeflow.trigger"] == "mine_word" and found.metadata["ss_steps"] == "12"
        assert f"from kohya to {dialect}" in json.loads(found.metadata["animeflow.changes"])[0]
        code, said = call("convert", out, "--to", "kohya", "--out", tmp_path / f"back_{dialect}.safetensors")
        assert code == 0 and compare(states[family], read_lora(tmp_path / f"back_{dialect}.safetensors").state) < 2e-6
    assert sha256_file(source) == before


def test_nothing_is_overwritten(made, tmp_path):
    source = made(FAMILIES[0])
    assert call("convert", source, "--to", "comfyui")[0] == 0
    for words in (("--to", "comfyui"), ("--to", "comfyui", "--out", source)):
        before = {path: sha256_file(path) for path in tmp_path.iterdir()}
        code, said = call("convert", source, *words)
        assert code == 2 and "--out" in said
        assert {path: sha256_file(path) for path in tmp_path.iterdir()} == before


def test_a_half_written_file_leaves_nothing_behind(made, tmp_path):
    source = made(FAMILIES[0])
    source.write_bytes(source.read_bytes()[:-100])
    before = sorted(tmp_path.iterdir())
    for words in (("convert", source, "--to", "peft"), ("resize", source, "--rank", 2), ("merge", source, source)):
        code, said = call(*words)
        assert code == 2 and "whole safetensors" in said, said
    assert call("check", source)[0] == 2
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_check_tells_a_sound_file_from_a_broken_one(family, made, states, tmp_path):
    source = made(family)
    code, said = call("check", source, "--base", tiny_base(family))
    assert code == 0 and "sound: 0 errors" in said and "beside W" in said, said
    name = next(iter(states[family]))
    bad = states[family][name].up.clone()
    bad[0] = float("inf")
    tensors = load_file(source)
    key = next(key for key in tensors if key.endswith("lora_up.weight"))
    tensors[key][0, 0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors")
    code, said = call("check", tmp_path / "nan.safetensors", "--json")
    told = json.loads(said[said.index("{") :])
    assert code == 2 and not told["sound"]
    assert [each["level"] for each in told["findings"] if each["name"] == "numbers"] == ["error"]
    save_file(
        load_file(source) | {"lora_unet_nowhere.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "more.safetensors"
    )
    code, said = call("check", tmp_path / "more.safetensors")
    assert code == 2 and "lora_unet_nowhere" in said


@pytest.mark.parametrize(
    ("start", "text"), [(b"only words", "does not begin like one"), (b"", "does not begin"), (b"PK\x03\x04aa", "pickled")]
)  # fmt: skip
def test_what_is_no_safetensors_is_told_as_show_tells_it(tmp_path, start, text):
    path = tmp_path / "x.safetensors"
    path.write_bytes(start)
    code, said = call("check", path)
    assert code == 2 and text in said
    assert text in CliRunner().invoke(main, ["show", str(path)]).output


@pytest.mark.parametrize("family", FAMILIES)
def test_an_autoencoder_is_no_base(family, made):
    code, said = call("check", made(family), "--base", next((Path(tiny_base(family)) / "vae").glob("*.safetensors")))
    assert code == 2 and "an autoencoder" in said


def test_a_base_of_another_family_is_refused(made):
    code, said = call("check", made(FAMILIES[0]), "--base", tiny_base(FAMILIES[1]))
    assert code == 2 and "no base of" in said and FAMILIES[0] in said


@pytest.mark.parametrize("family", FAMILIES)
def test_merge_adds_to_the_base_what_it_says(family, made, states, bases, tmp_path):
    one, two = made(family, "one"), made(family, "two", additions(bases[family], seed=1, rank=2))
    out = tmp_path / "merged"
    code, said = call("merge", f"{one}=0.5", f"{two}=-2", "--base", tiny_base(family), "--out", out, "--dtype", "fp32")
    assert code == 0, said
    weights = bases[family].backbone().export_state()
    found = base_family(out).backbone().export_state()
    second = read_lora(two).state
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        layer, expected = name.removesuffix(".weight"), weight.double()
        if layer in states[family]:
            expected = expected + 0.5 * states[family][layer].delta() - 2 * second[layer].delta()
        assert torch.equal(found[name], expected.float()) or torch.allclose(
            found[name].double(), expected, rtol=0, atol=1e-7
        )
    hint = next(line for line in said.splitlines() if "animeflow sample" in line).split("animeflow ")[1]
    assert hint == f"sample sample.source={out} sample.height=96 sample.width=96", "the base's size"
    record = json.loads((out / "record.json").read_text())
    assert "0.5 x one.safetensors" in record["parent"]
    header = next(path for path in out.rglob("*.safetensors") if "animeflow.parent" in read_metadata(path))
    assert "-2 x two.safetensors" in read_metadata(header)["animeflow.parent"]
    assert call("merge", one, "--base", tiny_base(family), "--out", out)[0] == 2, "what is there stays"


def test_a_weight_of_nothing_gives_the_base_bit_for_bit(made, bases, tmp_path):
    family = FAMILIES[0]
    code, said = call(
        "merge", f"{made(family)}=0", "--base", tiny_base(family), "--out", tmp_path / "m", "--dtype", "fp32"
    )
    assert code == 0, said
    found, weights = base_family(tmp_path / "m").backbone().export_state(), bases[family].backbone().export_state()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_become_one(family, made, states, bases, tmp_path):
    one, two = made(family, "one"), made(family, "two", additions(bases[family], seed=1, rank=2), dialect="comfyui")
    code, said = call("merge", f"{one}=0.7", two, "--out", tmp_path / "sum.safetensors")
    assert code == 0 and "0.7 x one.safetensors + 1 x two.safetensors" in said, said
    found, second = read_lora(tmp_path / "sum.safetensors"), read_lora(two).state
    for name, each in states[family].items():
        expected = 0.7 * each.delta() + second[name].delta()
        assert float((found.state[name].delta() - expected).norm() / expected.norm()) < 1e-6
        assert found.state[name].rank == 6
    assert found.metadata["animeflow.trigger"] == "one_word, two_word"
    code, said = call("merge", one, two, "--rank", 3, "--out", tmp_path / "small.safetensors")
    assert code == 0 and "of |delta W|^2" in said
    assert {each.rank for each in read_lora(tmp_path / "small.safetensors").state.values()} == {3}


def test_what_cannot_be_merged(made, tmp_path):
    first, second = (made(family, family) for family in FAMILIES[:2])
    before = sorted(tmp_path.iterdir())
    for words, said in (
        ((first, second), "different models"),
        ((first, "--base", tiny_base(FAMILIES[1])), "no base of"),
        ((first, "--base", tiny_base(FAMILIES[0]), "--rank", 4), "--rank"),
        ((first, "--layout", "diffusers"), "--layout"),
        ((f"{first}=much",), "no weight"),
        ((tmp_path / "nothing.safetensors",), "no LoRA"),
        ((first, "--base", tiny_base(FAMILIES[0]), "--layout", "difusers"), "did you mean 'diffusers'"),
    ):
        code, output = call("merge", *words)
        assert code == 2 and said in output, output
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_resize_is_the_nearest_of_its_rank(family, made, states, tmp_path):
    source = made(family)
    code, said = call("resize", source, "--rank", 2)
    assert code == 0 and "4 before, 2 now" in said, said
    found = read_lora(tmp_path / "mine_rank2.safetensors")
    for name, each in states[family].items():
        u, values, v = torch.linalg.svd(each.delta(), full_matrices=False)
        best = u[:, :2] * values[:2] @ v[:2]
        assert float((found.state[name].delta() - best).norm() / best.norm()) < 1e-5
    assert found.metadata["ss_network_dim"] == "2" and found.metadata["animeflow.trigger"] == "mine_word"
    for words in (("--rank", 99), ("--rank", 4), ("--keep", 1)):
        before = sorted(tmp_path.iterdir())
        code, said = call("resize", source, *words)
        assert code == 2 and "the file has rank 4" in said and sorted(tmp_path.iterdir()) == before, said
    for words in (("--rank", 0), (), ("--keep", 2), ("--rank", 2, "--keep", 0.5)):
        assert call("resize", source, *words)[0] == 2


def test_bf16_says_what_rounding_cost(made, states):
    family = FAMILIES[0]
    odd = {name: replace(each, alpha=2.9) for name, each in states[family].items()}
    code, said = call("convert", made(family, state=odd), "--to", "diffusers", "--dtype", "bf16")
    assert code == 0 and "bfloat16 rounds" in said
    assert call("convert", made(family, "other"), "--to", "peft", "--dtype", "fp12")[0] == 2


@pytest.mark.parametrize("dialect", ["peft", "kohya"])
def test_a_file_that_comes_back_apart_leaves_nothing_behind(bases, tmp_path, monkeypatch, dialect):
    """Also of a folder in the folder, as peft has it for a second network."""
    family = bases["anima"]
    outline = family.outline()
    weights, names = outline.export_state(), family.lora_layers(outline)
    shapes = {name: weights[f"{name}.weight"].shape for name in names if "blocks." in name}
    state = {name: LowRank(torch.ones(2, shape[1]), torch.ones(shape[0], 2), 2.0) for name, shape in shapes.items()}
    options = {"family": "anima", "dialect": dialect, "dtype": torch.float32, "metadata": {}}
    made, apart = lora_file.write(tmp_path / "good" / "a.safetensors", state, **options)
    assert apart < 1e-6 and len(made) == (4 if dialect == "peft" else 1)
    monkeypatch.setattr("animeflow.learn.check.compare", lambda *_: 1.0)
    (tmp_path / "bad").mkdir()
    with pytest.raises(DataError, match="comes back 1 apart"):
        lora_file.write(tmp_path / "bad" / "a.safetensors", state, **options)
    assert list((tmp_path / "bad").iterdir()) == [] and all(path.is_file() for path in made)


@pytest.mark.parametrize("text", ["[oops", f"[{'9' * 5000}]", "[" * 100_000, '["\\ud800"]', '{"a": 1}', "words"])
def test_a_strangers_words_of_changes_are_kept_and_no_traceback(made, tmp_path, text):
    source = made(FAMILIES[0])
    save_file(load_file(source), source, metadata=read_metadata(source) | {"animeflow.changes": text})
    code, said = call("convert", source, "--to", "comfyui")
    assert code == 0, said
    history = json.loads(read_metadata(tmp_path / "mine_comfyui.safetensors")["animeflow.changes"])
    assert len(history) == 2 and history[0] == text and "from kohya to comfyui" in history[1]
