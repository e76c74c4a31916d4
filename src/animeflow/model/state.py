"""Whether a state dict is the one a network expects. Knows names and shapes; knows no family and no file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..core.errors import DataError


def check_state(
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    *,
    what: str = "these weights are of another network",
    where: str | None = None,
    do: str = "check model.flavour and its sizes against the file",
) -> None:
    """Raises DataError, which begins with `what`, unless both hold the same names with the same shapes."""
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    shapes = sorted(name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape)
    if not (missing or unknown or shapes):
        return
    facts = [f"{name}: {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}" for name in shapes[:3]]
    raise DataError(
        f"{what}: {len(missing)} names missing {missing[:3]}, {len(unknown)} unknown "
        f"{unknown[:3]}, {len(shapes)} of another shape {facts}",
        where=where,
        do=do,
    )


def draws(network: nn.Module) -> bool:
    """Whether a forward pass in training draws numbers of torch's own: dropout does."""
    return any(isinstance(part, nn.Dropout) and part.p > 0 for part in network.modules())
