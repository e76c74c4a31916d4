"""The model card says what the record says: no figure of its own, nothing left out silently."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from typing import Any

import pytest

from animeflow.export.card import FIXED_NAMES, MISSING, card
from animeflow.export.record import RunRecord

FULL = RunRecord(
    name="Toon 7",
    description="A model of drawn figures.",
    author="someone",
    licence="apache-2.0",
    date="2026-03-04",
    family="sd35",
    flavour="medium",
    model_spec={"architecture": "stable-diffusion-3.5", "implementation": "https://github.com/Stability-AI/sd3.5"},
    base="owner/base-model",
    parent="checkpoint 991122",
    resolution="1152x896",
    images_seen=1234567,
    steps=7014,
    effective_batch=176,
    optimizer={"name": "adamw", "lr": 1.5e-05, "betas": [0.9, 0.99], "fused": True},
    schedule={"kind": "constant", "warmup_images": 17600},
    flow={"density": "logit_normal", "shift": 3.1},
    precision="bf16",
    ema={"decay_images": 50000},
    parts={"codec": "fe12", "text": "ab34"},
    text_encoder="frozen",
    model_settings={"part": "lora, rank 17"},
    text={"t5_length": 256},
    hardware="8 x H100 80GB",
    seconds=86412.5,
    device_hours=192.03,
    data={
        "images": 4001,
        "counts": {"found": 5005, "kept": 4001},
        "sources": {"danbooru": 3990, "folder": 11},
        "origins": {"human": 3900, "ai": 21, "drawn_by_program": 80},
        "ratings": {"general": 4000, "sensitive": 1},
        "buckets": {"1152x896": 2222, "1024x1024": 1779},
        "rejected": {"truncated": 3, "too_large": 1001},
        "reviewed": "12 % of them",
        "snapshot": "2025-12-31",
        "catalogue_hash": "0a1b2c",
        "manifest_hash": "9d8e7f",
        "licence_note": "as on the booru",
    },
    caption_policy={"tag_dropout": 0.11, "languages": ["en", "ja"]},
    prompts=["hatsune miku (vocaloid), 1girl", "night | city"],
    sampling={"solver": "heun", "steps": 29, "cfg": 4.75},
    results={"hair colour": 0.931, "psnr_db": 24.61},
    limitations=["Two figures are mixed up in 37 of 100 pictures."],
    changes=["0.2: longer"],
    seed=42,
    versions={"torch": "2.13.0", "diffusers": "0.42.1"},
    config_hash="c0ffee99",
    git_commit="abcdef0",
    layouts=["diffusers", "single_file", "text_encoders", "comfyui"],
    places={"diffusers": "load it", "single_file": "`ComfyUI/models/checkpoints`"},
    examples={"diffusers": "```python\nStableDiffusion3Pipeline\n```"},
    dtype="bf16",
    notes=["Call the pipeline with max_sequence_length=40."],
    files=[{"path": "single_file/Toon 7.safetensors", "bytes": 9024272, "sha256": "19f5" * 16}],
)


def figures(text: str) -> set[str]:
    """Whole words with a digit, `192.03` and `1152x896` among them: a digit inside a hash must not excuse a number elsewhere."""
    return {word.strip(".") for word in re.findall(r"[\w.]*\d[\w.]*", text)}


def values(value: Any) -> str:
    """All keys and values of a record, as text."""
    if isinstance(value, dict):
        return " ".join(f"{key} {values(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(values, value))
    return str(value)


def template_figures(record: RunRecord) -> set[str]:
    """Figures of the card that no field of the record accounts for."""
    text = card(record)
    for name in FIXED_NAMES:
        text = text.replace(name, "")
    return figures(text) - figures(values(record.to_json()))


@pytest.mark.parametrize(
    "record", [FULL, RunRecord(), replace(FULL, data=None, files=None, results=None)], ids=["full", "empty", "part"]
)
def test_no_figure_is_typed_by_hand(record):
    assert not template_figures(record)


def test_the_test_finds_a_figure_typed_by_hand(monkeypatch):
    monkeypatch.setattr("animeflow.export.markdown.MISSING", "needs 19 GB")
    assert template_figures(replace(FULL, author=None)) == {"19"}


def test_a_layout_says_itself_where_it_goes_and_how_it_is_loaded():
    text = card(FULL)
    assert "| single_file | `ComfyUI/models/checkpoints` |" in text
    assert f"| comfyui | {MISSING} |" in text
    assert FULL.examples["diffusers"] in text
    assert "diffusers import" not in text


@pytest.mark.parametrize("name", [field.name for field in fields(RunRecord)])
def test_every_field_is_in_the_card(name):
    """Without the field the card is another one."""
    assert card(replace(FULL, **{name: None})) != card(FULL)


def test_every_figure_of_the_record_is_in_the_card():
    assert figures(values(FULL.to_json())) <= figures(card(FULL))


def test_what_is_missing_is_said_not_guessed():
    text = card(RunRecord(name="bare"))
    assert text.count(MISSING) > 30
    assert f"Synthetic pictures: {MISSING}." in text
    assert "| images seen | not recorded |" in text


def test_front_matter_is_what_the_hub_reads():
    lines = card(FULL).split("---\n")[1].splitlines()
    found = {key: json.loads(value) for key, value in (line.split(": ", 1) for line in lines)}
    assert card(FULL).startswith("---\n")
    assert found["license"] == "apache-2.0" and found["base_model"] == "owner/base-model"
    assert found["pipeline_tag"] == "text-to-image" and found["library_name"] == "diffusers"
    local = card(replace(FULL, base="random weights", layouts=["single_file"])).split("---\n")[1]
    assert "base_model" not in local and "library_name" not in local


@pytest.mark.parametrize(
    "origins, said",
    [
        ({"human": 5}, "none; every picture is recorded as made by a person."),
        ({"human": 5, "ai": 0}, "none; every picture is recorded as made by a person."),
        ({"drawn_by_program": 9}, "9 drawn by a program."),
        (
            {"ai": 2, "ai_assisted": 3, "unknown": 4},
            "2 made by a generator, 3 made with a generator's help, 4 of unknown origin.",
        ),
        ({"human": 1, "scan": 6}, "6 of origin `scan`."),
        ({}, f"{MISSING}."),
        ({"human": 0}, f"{MISSING}."),
    ],
)
def test_the_synthetic_statement_follows_the_origins(origins, said):
    assert f"Synthetic pictures: {said}" in card(RunRecord(data={"origins": origins}))


@pytest.mark.parametrize(
    "plain, escaped",
    [
        ("hatsune miku (vocaloid)", r"hatsune miku \(vocaloid\)"),
        (r"hatsune miku \(vocaloid\)", r"hatsune miku \(vocaloid\)"),
        ("a (b (c))", r"a \(b \(c\)\)"),
        ("1girl", "1girl"),
    ],
)
def test_prompts_are_escaped_for_comfyui_once(plain, escaped):
    assert f"\n{escaped}\n" in card(RunRecord(prompts=[plain]))
    assert card(RunRecord(prompts=[escaped])) == card(RunRecord(prompts=[plain]))


def test_what_a_family_says_of_itself_and_how_it_is_sampled_have_their_rows():
    settings, sampling = {"some part": "frozen"}, {"solver": "heun", "steps": 29, "negative": ""}
    text = card(RunRecord(model_settings=settings, text={"reading": "as it stands"}, sampling=sampling))
    assert "| model settings | some part: frozen |" in text
    assert "| text settings | reading: as it stands |" in text
    assert "| solver | heun |\n| steps | 29 |\n| negative | none |" in text  # an empty one is known, too
    assert f"| model settings | {MISSING} |" in card(RunRecord()) and f"Settings: {MISSING}." in card(RunRecord())


def test_a_bar_does_not_break_a_table():
    text = card(RunRecord(hardware="a | b"))
    assert r"| hardware | a \| b |" in text
