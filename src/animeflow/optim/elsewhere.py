"""What other trainers call their optimizers, and what there is of them here. Knows words; knows no tensor."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..core.errors import ConfigError, did_you_mean

SAME = {  # their name, in small letters and digits -> our kind
    "adamw": "adamw",
    "adamw8bit": "adamw8bit",
    "pagedadamw": "adamw",
    "pagedadamw32bit": "adamw",
    "pagedadamw8bit": "adamw8bit",
    "prodigy": "prodigy",
    "muon": "muon",
}
AVERAGES = "train.ema averages the weights under any schedule, which is what schedule-free training is for"
FOUND = "it finds its own rate too, and is the later work of the same author"
LITTLE = "the moments of a LoRA are small, so an optimizer that saves them gains little"
INSTEAD = {  # how their names begin or end -> what to use, and why
    "schedulefree": ("optim=adamw_lora with optim.schedule.kind=constant", AVERAGES),
    "dadapt": ("optim=prodigy", FOUND),
    "lion8bit": ("optim.kind=adamw8bit", "8 bits are offered for AdamW; Lion wants another rate and decay"),
    "lion": ("optim.kind=adamw", "Lion wants a rate 3 to 10 times lower, so its numbers do not carry over"),
    "came": ("optim.kind=adamw8bit, or adamw", LITTLE),
    "adafactor": ("optim.kind=adamw8bit, or adamw", LITTLE),
    "ademamix": ("optim.kind=adamw", "train.ema remembers for longer, on the weights"),
    "automagic": ("optim=prodigy", "it finds its own rate too"),
    "sgd": ("optim.kind=adamw", "transformers hardly learn without a second moment"),
}  # fmt: skip


def kind_of(name: str) -> str | None:
    """Our kind for a name from elsewhere (`AdamW8bit`, `prodigyopt.Prodigy`); None where there is none like it."""
    return SAME.get(_plain(name))


def unknown(kind: str, kinds: Iterable[str]) -> ConfigError:
    """What to say to someone who asks for an optimizer that is not here."""
    known = list(kinds)
    there = f"choose one of: {', '.join(known)}"
    if kind_of(kind):
        return ConfigError(f"unknown kind '{kind}' (did you mean '{kind_of(kind)}'?)", where="optim.kind", do=there)
    for word, (use, why) in INSTEAD.items():
        if word in _plain(kind):
            return ConfigError(f"{kind} is not offered", where="optim.kind", why=why, do=f"use {use}")
    return ConfigError(f"unknown kind '{kind}'{did_you_mean(kind, known)}", where="optim.kind", do=there)


def _plain(name: str) -> str:
    """`bitsandbytes.optim.AdamW8bit`, `AdamW-8bit` and `adamw8bit` are one."""
    return re.sub(r"[^a-z0-9]", "", name.rsplit(".", 1)[-1].lower())
