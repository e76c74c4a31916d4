"""The header of a LoRA: kohya's words as its readers want them, its hashes by its own definition, and the way back into facts."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save

from animeflow.learn.explain import explain, parsed
from animeflow.learn.files import write_lora
from animeflow.learn.metadata import hashes, lora_metadata
from animeflow.model import registry
from animeflow.model.low_rank import LowRank
from animeflow.model.tensor_file import read_metadata

MINIMUM = (
    "ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args",
)  # fmt: skip
SPEC = {"architecture": "some-architecture", "implementation": "https://example.org"}
RECORD = {
    "name": "eileen",
    "date": "2026-11-02T10:00:00Z",
    "base": "stable-diffusion-3.5-medium",
    "resolution": "1024x768",
    "images_seen": 2000,
    "steps": 500,
    "effective_batch": 4,
    "seconds": 3600.0,
    "seed": 7,
    "optimizer": {"name": "adamw", "lr": 0.0002, "betas": [0.9, 0.99]},
    "schedule": {"kind": "constant", "warmup_images": 400},
    "flow": {"recipe": "velocity", "density.law": "logit_normal", "density.mean": 0.0, "density.std": 1.0,
             "shift.mode": "fixed", "shift.value": 1.0},
    "precision": "bf16 autocast over float32 weights",
    "data": {"images": 20, "manifest_hash": "abc", "sources": {"eileen": 20}, "repeats": {"eileen": 1},
             "buckets": {"768x1024": 12, "1024x1024": 8}},
    "learn": {"kind": "lora", "rank": 32, "alpha": 16, "targets": "default"},
    "caption_policy": {"concepts": {"a": {"trigger": "eileen"}, "b": {"trigger": None}}},
}  # fmt: skip


def state(*ranks: int) -> dict[str, LowRank]:
    return {f"layer.{i}": LowRank(torch.zeros(r, 4), torch.zeros(4, r), r / 2) for i, r in enumerate(ranks or (32, 32))}


def header(
    family: str = "sd35", *, ranks: tuple[int, ...] = (), record: dict | None = None, **options
) -> dict[str, str]:
    fam = SimpleNamespace(name=family, flavour="medium", model_spec=SPEC)
    return lora_metadata(fam, state(*ranks), RECORD if record is None else record, **options)


@pytest.mark.parametrize("family", registry.names())
def test_kohyas_minimum_is_there_even_of_an_empty_record(family):
    for record in ({}, RECORD):
        made = header(family, record=record)
        assert all(isinstance(value, str) for value in made.values())
        assert set(MINIMUM) <= set(made)
        json.loads(made["ss_network_args"])
        assert made["ss_network_module"].startswith("networks.lora")


def test_words_of_the_families():
    assert header()["ss_base_model_version"] == "5-medium"
    assert header()["ss_network_module"] == "networks.lora_sd3"
    assert header("anima")["ss_base_model_version"] == "anima"
    assert header("anima")["ss_network_module"] == "networks.lora_anima"


def test_it_says_what_the_record_says_and_nothing_else():
    made = header(tags={"eileen": {"1girl": 20}})
    assert (made["ss_network_dim"], made["ss_network_alpha"]) == ("32", "16.0")
    assert (made["ss_steps"], made["ss_num_epochs"], made["ss_lr_warmup_steps"]) == ("500", "100", "100")
    assert made["ss_unet_lr"] == "0.0002" and made["ss_resolution"] == "(1024, 768)"
    assert json.loads(made["ss_bucket_info"])["buckets"]["0"] == {"resolution": [1024, 768], "count": 12}
    assert json.loads(made["ss_tag_frequency"]) == {"eileen": {"1girl": 20}}
    assert float(made["ss_training_finished_at"]) - float(made["ss_training_started_at"]) == 3600
    assert (
        made["modelspec.architecture"] == "some-architecture-medium/lora"
        and made["modelspec.trigger_phrase"] == "eileen"
    )
    assert json.loads(made["animeflow.recipe"])["learn"]["rank"] == 32 and made["animeflow.data"] == "abc"
    bare = header(record={})
    assert not {"ss_steps", "ss_unet_lr", "modelspec.title", "animeflow.trigger"} & set(bare)


def test_repeats_count_and_what_is_not_known_has_no_key():
    """One picture shown thrice takes three of an epoch's places; two of twenty are left out for validation."""
    sources = {"eileen": 15, "alice": 5}

    def made(**data) -> dict:
        return header(record=RECORD | {"data": {"images": 18, "sources": sources, **data}})

    for repeats, epochs in (
        ({"eileen": 1, "alice": 1}, 111),
        ({"eileen": 1, "alice": 3}, 74),
        ({"eileen": 4, "alice": 4}, 28),
    ):
        found = made(repeats=repeats)
        assert found["ss_epoch"] == found["ss_num_epochs"] == str(epochs)
        folders = json.loads(found["ss_dataset_dirs"])
        assert folders == {name: {"n_repeats": repeats[name], "img_count": count} for name, count in sources.items()}
    for known in ({}, {"alice": 3}):
        found = made(repeats=known) if known else made()
        assert not {"ss_epoch", "ss_num_epochs"} & found.keys()
        folders = json.loads(found["ss_dataset_dirs"])
        assert {name: each["n_repeats"] for name, each in folders.items() if "n_repeats" in each} == known


def test_several_ranks_are_dynamic():
    assert header(ranks=(8, 32))["ss_network_dim"] == "Dynamic" == header(ranks=(8, 32))["ss_network_alpha"]
    assert header(ranks=(8, 8))["ss_network_dim"] == "8"


def test_the_hashes_are_those_of_sd_scripts():
    """Its definition step by step, over a file that is longer than the piece that the old hash is of."""
    tensors = {"a": torch.arange(400_000, dtype=torch.float32), "b": torch.ones(3, dtype=torch.bfloat16)}
    made = header() | {"modelspec.title": "other"}
    file = BytesIO(save(tensors, {key: value for key, value in made.items() if key.startswith("ss_")}))
    length = int.from_bytes(file.read(8), "little")
    file.seek(8 + length)
    expected = hashlib.sha256(file.read()).hexdigest()
    file.seek(0x100000)
    legacy = hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    assert hashes(tensors, made) == {"sshs_model_hash": expected, "sshs_legacy_hash": legacy}
    assert hashes(tensors, made | {"animeflow.x": "more"}) == hashes(tensors, made), "strings of others change nothing"
    changed = {**tensors, "b": torch.zeros(3, dtype=torch.bfloat16)}
    assert hashes(changed, made)["sshs_model_hash"] != expected
    assert set(load(file.getvalue())) == {"a", "b"}


def test_the_way_back():
    told = explain(header(tags={"x": {"1girl": 20, "smile": 3}, "y": {"smile": 30}}))
    assert told["written by"] == "animeflow" and told["trigger"] == "eileen" and told["rank"] == "32"
    assert told["base"] == RECORD["base"] and told["recipe"]["optimizer"]["lr"] == 0.0002
    assert list(told["tags"].items()) == [("smile", 33), ("1girl", 20)]


def test_headers_of_others_are_read_and_broken_ones_survived():
    kohya = {"ss_network_module": "networks.lora", "ss_output_name": "old", "ss_training_finished_at": "1700000000.5",
             "ss_tag_frequency": "{broken", "ss_sd_model_name": "None"}  # fmt: skip
    told = explain(kohya)
    assert told["title"] == "old" and told["date"].startswith("2023-11-14") and "base" not in told
    assert explain({"lora_adapter_metadata": "{}"})["written by"] == "diffusers"
    assert explain({}) == {}


def test_a_file_carries_its_hashes(tmp_path):
    low = {"transformer_blocks.0.attn.to_q": LowRank(torch.randn(2, 64), torch.randn(64, 2), 2.0)}
    for name, words in (("with", {"ss_v2": "False", "x": "y"}), ("without", {"x": "y"})):
        path = tmp_path / f"{name}.safetensors"
        write_lora(path, low, family="sd35", dialect="kohya", dtype=torch.float32, metadata=words)
        found = read_metadata(path)
        body = path.read_bytes()
        expected = hashlib.sha256(body[8 + int.from_bytes(body[:8], "little") :]).hexdigest()
        assert found.get("sshs_model_hash") == (expected if name == "with" else None)


HOSTILE = {
    "broken": "[oops",
    "a long number": f"[{'9' * 5000}]",
    "deep": "[" * 100_000,
    "deep and whole": "[" * 500 + "]" * 500,
    "deep objects": '{"a":' * 500 + "1" + "}" * 500,
    "half a character": '["\\ud800"]',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_text_that_only_looks_like_json_stays_text(text):
    assert parsed(text) == text
    for key in ("animeflow.changes", "ss_tag_frequency", "software", "animeflow.recipe", "modelspec.trigger_phrase"):
        json.dumps(explain({key: text}), ensure_ascii=False).encode()
    many = explain({"ss_tag_frequency": json.dumps({str(i): {"1girl": int("9" * 4299)} for i in range(20)})})
    assert "tags" not in many
    assert parsed('{"a": [1, {"b": 2}]}') == {"a": [1, {"b": 2}]}
