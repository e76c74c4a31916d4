"""The card of a LoRA says what its record says: every figure is from there, and what is missing is said to be."""

from __future__ import annotations

import re

from animeflow.export.lora_card import FIXED_NAMES, STRENGTH, lora_card
from animeflow.export.markdown import MISSING

RECORD = {
    "name": "eileen",
    "family": "somefamily",
    "flavour": "middle",
    "base": "someone/some-base",
    "images_seen": 2011,
    "steps": 503,
    "effective_batch": 17,
    "dtype": "bf16",
    "caption_policy": {"kinds": {"tags": 1.0}, "concepts": {"e": {"trigger": "eileen", "class": "1girl"}}},
    "learn": {"kind": "lora", "rank": 32, "alpha": 16, "scale": 0.5, "effective_rate": [0.00023, 0.00023], "layers": 41},
    "optimizer": {"name": "adamw", "lr": 0.00046},
    "data": {
        "images": 21, "rejected": {"broken": 3, "too small": 4}, "captions": ["eileen, 1girl, smile"],
        "truncation": {"clip": {"captions": 99, "truncated": 13, "limit": 77}},
    },
    "dialects": {
        "kohya": {"file": "eileen.safetensors", "readers": ["ComfyUI", "kohya"], "place": "`ComfyUI/models/loras`", "example": ""},
        "diffusers": {"file": "eileen_diffusers.safetensors", "readers": ["diffusers"], "place": "anywhere",
                      "example": "```python\npipe.load_lora_weights('{file}')\n```"},
    },
    "files": [{"path": "eileen.safetensors", "bytes": 1234567, "sha256": "ab" * 32}],
    "prompts": ["eileen (cosplay), smile"],
    "pictures": ["before_after.png"],
    "licence": "cc0-1.0",
}  # fmt: skip


def test_it_says_what_the_record_says():
    card = lora_card(RECORD)
    for said in (
        "`eileen`", "1girl", "someone/some-base", "0.00023", "broken: 3, too small: 4", "13 of 99", "1234567", "ab" * 32,
        "pipe.load_lora_weights('eileen_diffusers.safetensors')", "![before_after.png](before_after.png)",
        "`ComfyUI/models/loras`", r"eileen \(cosplay\)", "eileen, 1girl, smile", "cc0-1.0", STRENGTH,
        'base_model: "someone/some-base"', 'instance_prompt: "eileen"',
    ):  # fmt: skip
        assert said in card, said
    assert "{file}" not in card


def test_the_template_has_no_figure_of_its_own():
    """With an empty record no digit is left but those of fixed names and of the usual strength."""
    bare = lora_card({}).replace(STRENGTH, "")
    for name in FIXED_NAMES:
        bare = bare.replace(name, "")
    assert not re.findall(r"\d", bare)
    assert bare.count(MISSING) > 10


def test_every_figure_is_the_records():
    """A changed record changes the card in just the places that show it."""
    before, after = lora_card(RECORD), lora_card({**RECORD, "images_seen": 7777})
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert changed == [("| images seen | 2011 |", "| images seen | 7777 |")]
    digits = set(re.findall(r"\d+", lora_card(RECORD).replace(STRENGTH, ""))) - {"256"}
    assert digits <= set(re.findall(r"\d+", repr(RECORD))) | {"0"}


def test_a_cell_cannot_break_the_table():
    example = {"diffusers": {"file": "x", "example": 'from_pretrained("{base}")'}}
    assert 'from_pretrained("PATH_OF_BASE/some")' in lora_card({"base": "some", "dialects": example})
    assert 'from_pretrained("models/some")' in lora_card({"base": "models/some", "dialects": example})
    card = lora_card({"base": "a|b\nc"})
    assert r"a\|b c" in card
