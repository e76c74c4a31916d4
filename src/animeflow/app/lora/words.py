"""Values as the words of a command line that Hydra reads back equal. Knows text; knows no setting."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..compose import key_of

PLAIN = re.compile(r"[A-Za-z_/][\w./-]*")  # needs no quotes
RESERVED = ("true", "false", "null", "nan", "inf")


def word(key: str, value: Any) -> str:
    """`KEY=VALUE`; strings are quoted where Hydra would take them for something else."""
    return f"{key}={_value(value)}"


def keys(words: Iterable[str]) -> set[str]:
    """The settings and groups that these words name."""
    return {key_of(each) for each in words}


def unless_said(ours: Mapping[str, Any], said: Sequence[str]) -> dict[str, Any]:
    """Of our settings those that the user did not say, alone or with all that holds them. A group that is chosen (`optim=prodigy`)
    only changes what ours are laid over."""
    named = keys(said)
    return {
        key: value for key, value in ours.items() if key not in named and not any(_holds(name, key) for name in named)
    }


def _holds(name: str, key: str) -> bool:
    return "." in name and key.startswith(f"{name}.")


def line(words: Sequence[str], *, verb: str = "train") -> str:
    """A command for a shell."""
    return shlex.join(["animeflow", verb, *words])


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_value, value)) + "]"
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in RESERVED:
        return text
    return f'"{_escaped(text)}"'  # a shell's single quotes then go around the word without a stir


def _escaped(text: str) -> str:
    """Within double quotes Hydra reads backslashes before a quote, and `${` as a reference."""
    text = re.sub(r'(\\*)"', lambda found: found[1] * 2 + r"\"", text)
    text = re.sub(r"(\\+)$", lambda found: found[1] * 2, text)
    return text.replace("${", r"\${")
