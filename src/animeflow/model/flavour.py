"""Whether stored weights are of the flavour that was asked for. Knows sizes as named numbers; knows no family."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from ..core.errors import ConfigError


def require_flavour(
    name: str, found: Any, expected: Any | None, changes: Mapping[str, Any], *, free: Collection[str], where: str
) -> None:
    """Raise `ConfigError` when weights of the shape `found` are not those of a flavour.

    Args:
        name: of the flavour, for the message.
        found, expected: dataclasses of one kind; no `expected` takes any size.
        changes: sizes that the config names explicitly; None names nothing.
        free: fields in which a file may differ and still be of the flavour.
    """
    sizes = asdict(found)
    wanted = {} if expected is None else {key: value for key, value in asdict(expected).items() if key not in free}
    wanted |= {key: value for key, value in changes.items() if value is not None}
    wrong = [f"{key} {sizes[key]} instead of {value}" for key, value in wanted.items() if sizes[key] != value]
    if wrong:
        raise ConfigError(
            f"these weights are not {name}: {'; '.join(wrong)}",
            where=where,
            do="set model.flavour to what the file holds, or leave the sizes out of the config",
        )
