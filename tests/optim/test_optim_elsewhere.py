"""Whoever knows optimizers from other trainers hears what there is here in their place."""

from __future__ import annotations

import pytest

from animeflow.app.compose import compose
from animeflow.app.wiring import optim
from animeflow.core.errors import ConfigError
from animeflow.optim.elsewhere import kind_of

KINDS = ("adamw", "adamw8bit", "muon", "prodigy")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("schedulefree_adamw", r"(?s)not offered.*train\.ema.*schedule\.kind=constant"),
        ("AdamWScheduleFree", r"(?s)not offered.*train\.ema"),
        ("Lion", r"(?s)not offered.*optim\.kind=adamw"),
        ("Lion8bit", r"(?s)not offered.*adamw8bit"),
        ("CAME", "(?s)not offered.*adamw8bit"),
        ("AdaFactor", "(?s)not offered.*adamw8bit"),
        ("DAdaptAdam", r"(?s)not offered.*optim=prodigy"),
        ("dadaptation", r"(?s)not offered.*optim=prodigy"),
        ("AdamW8bit", r"did you mean 'adamw8bit'\?"),
        ("PagedAdamW8bit", r"did you mean 'adamw8bit'\?"),
        ("Prodigy", r"did you mean 'prodigy'\?"),
        ("prodgy", r"did you mean 'prodigy'\?"),
        ("nothing like it", "choose one of: adamw, adamw8bit, muon, prodigy"),
    ],
)
def test_an_optimizer_that_is_not_here_is_answered(kind, says) -> None:
    config = compose(["optim=adamw_lora"])
    config["optim"]["kind"] = kind
    with pytest.raises(ConfigError, match=says) as caught:
        optim(config)
    assert caught.value.where == "optim.kind"
    assert caught.value.do and any(known in caught.value.do for known in KINDS)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("AdamW8bit", "adamw8bit"),
        ("bitsandbytes.optim.AdamW8bit", "adamw8bit"),
        ("prodigyopt.Prodigy", "prodigy"),
        ("AdamW", "adamw"),
        ("Lion", None),
    ],
)
def test_names_from_elsewhere_are_known(name, kind) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize("name", ["adamw_lora", "adamw8bit", "prodigy"])
def test_every_file_of_configs_makes_an_optimizer_of_its_kind(name) -> None:
    config = compose([f"optim={name}"])
    made, schedule = optim(config)
    assert type(made).__name__.lower() == config["optim"]["kind"]
    assert schedule.factor(0, 10_000) < 1 and schedule.factor(5_000, 10_000) == 1
    assert (made.betas, made.weight_decay) == ((0.9, 0.99), 0.01)
