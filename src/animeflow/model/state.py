"""Whether a state dict is the one a network expects. Knows names and shapes; knows no family and no file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..core.errors import DataError


def check_state(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], *, where: str | None = None) -> None:
    """Raises DataError unless both hold the same names with the same shapes."""
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    shapes = sorted(name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape)
    if not (missing or unknown or shapes):
        return
    facts = [f"{name}: {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}" for name in shapes[:3]]
    raise DataError(
        f"these weights are of another network: {len(missing)} names missing {missing[:3]}, {len(unknown)} unknown "
        f"{unknown[:3]}, {len(shapes)} of another shape {facts}",
        where=where,
        do="check model.flavour and its sizes against the file",
    )
