"""Words that Hydra reads back as the value they were made of, and survive a shell."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from animeflow.app.lora.words import keys, line, unless_said, word

VALUES = [
    *(None, True, False, 0, -3, 2.5, 4e-05, 1e-8),
    *("plain", "1girl", "true", "Null", "inf", "", " ", "a b", "models/x-1.0.safetensors", "/absolute/path"),
    *(
        "it's",
        'say "hi"',
        'it\'s "both"',
        r"C:\pictures\new",
        "ends in \\",
        r"\"",
        "a,b",
        "{a:b}",
        "[x]",
        "a=b",
        "日本語",
        "!:;#&*()",
    ),
    *(
        [],
        ["1girl, smile", 'a "b" c'],
        {"eileen": {"trigger": "eileen", "class": "1girl", "prune": ["*_hair", "a:b"]}},
        {"a": {}},
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_through_a_shell_and_hydra(value) -> None:
    spoken = shlex.split(line([word("some.key", value)]))
    assert spoken[:2] == ["animeflow", "train"]
    override = OverridesParser.create().parse_override(spoken[2])
    assert override.key_or_group == "some.key"
    assert override.value() == value
    assert type(override.value()) is type(value) or isinstance(value, str | list | dict)


def test_a_dollar_sign_is_no_reference() -> None:
    from omegaconf import OmegaConf

    override = OverridesParser.create().parse_override(word("key", "costs ${money}"))
    config = OmegaConf.create({"key": override.value()})
    assert config.key == "costs ${money}"


def test_what_the_user_said_leaves_ours_out() -> None:
    ours = {"train.images": 2400, "text.concepts": {}, "optim.lr": 1e-4, "name": "mine"}
    said = ["train.images=100", "text.concepts.eileen.trigger=e", "+optim.rates.x=1", "name=yours"]
    assert set(unless_said(ours, said)) == {"text.concepts", "optim.lr"}  # a part that is said is laid over the whole
    assert set(unless_said({"recipe.prior.kind": 1}, ["recipe.prior={kind: dop}"])) == set()
    assert set(unless_said({"text.concepts": 1}, ["text=anima"])) == {"text.concepts"}
    assert keys(["a/b=c", "++d.e=1"]) == {"a.b", "d.e"}
