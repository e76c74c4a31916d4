"""From a config node to an object: the constructor is the schema. Knows signatures; imports nothing that a config names."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import ConfigError, did_you_mean

T = TypeVar("T")


def build(make: Callable[..., T], node: Mapping[str, Any] | None, *, where: str, **given: Any) -> T:
    """`make(**node, **given)`. Raises ConfigError for a key the constructor does not have, with a did-you-mean, and for one that
    is missing; what is given here is no setting. Lists become tuples and strings become Paths where the annotation says so."""
    node = dict(node or {})
    signature = inspect.signature(make)
    known = [name for name, p in signature.parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    options = [name for name in known if name not in given]
    for key in node:
        if key not in options:
            raise ConfigError(
                f"unknown setting '{key}'{did_you_mean(key, options)}",
                where=where,
                do=f"known here: {', '.join(options)}",
            )
    hints = _hints(make)
    for key, value in node.items():
        _check(value, hints.get(key), where=f"{where}.{key}")
    arguments = {key: _fit(value, hints.get(key)) for key, value in node.items()} | given
    needed = {n for n, p in signature.parameters.items() if p.default is p.empty and n in known}
    missing = sorted(needed - arguments.keys())
    if missing:
        raise ConfigError(f"setting '{missing[0]}' is missing", where=where)
    return make(**arguments)


def choose(kinds: Mapping[str, Callable[..., T]], node: Mapping[str, Any], *, where: str, **given: Any) -> T:
    """`build` of the constructor that `node["kind"]` names; `kinds` is written out where it is used, so nothing untrusted can
    name a class."""
    node = dict(node)
    kind = node.pop("kind", None)
    if kind not in kinds:
        raise ConfigError(
            f"unknown kind '{kind}'{did_you_mean(str(kind), kinds)}",
            where=where,
            do=f"choose one of: {', '.join(kinds)}",
        )
    return build(kinds[kind], node, where=f"{where} ({kind})", **given)


def _hints(make: Callable) -> dict[str, Any]:
    try:
        return typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)
    except (NameError, AttributeError):
        return {}


PLAIN: dict[Any, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    bool: ("true or false", (bool,)),
    str: ("a word", (str,)),
    type(None): ("null", (type(None),)),
}


def _check(value: Any, hint: Any, *, where: str) -> None:
    """Raises ConfigError for a value of another kind than a plain annotation asks for."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if any(option not in PLAIN for option in options):
        return
    if isinstance(value, bool):
        fits = bool in options
    else:
        fits = isinstance(value, tuple(kind for option in options for kind in PLAIN[option][1]))
    if not fits and not (int in options and isinstance(value, float) and value.is_integer()):
        raise ConfigError(f"{value!r} is not {' or '.join(PLAIN[option][0] for option in options)}", where=where)


def _fit(value: Any, hint: Any) -> Any:
    """YAML has lists and strings only; constructors say tuples and Paths. 4e4 is a float to YAML and a whole number to us."""
    options = typing.get_args(hint) if typing.get_origin(hint) is not None else (hint,)
    if isinstance(value, float) and int in options and float not in options and value.is_integer():
        return int(value)
    if isinstance(value, str) and (hint is Path or Path in options) and str not in options:
        return Path(value)
    if isinstance(value, list) and (
        typing.get_origin(hint) is tuple or any(typing.get_origin(o) is tuple for o in options)
    ):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return value
