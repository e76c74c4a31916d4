"""Two sets of names for one network, as one table read in both directions. Knows names and rows; knows no network and no file.

Both directions read the same `Pair`s, so they are inverse by construction. Nothing is guessed: a key too many or too few is a
`DataError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import DataError, did_you_mean
from .likeness import looks_like

BOTH = (".weight", ".bias")
MOST = 6  # names in one message
PARTLY = "a network loaded from a part of its weights runs and draws noise"


@dataclass(frozen=True)
class Pair:
    """One tensor of the original file and the diffusers tensors it holds.

    Attributes:
        form: `same`; `stacked`: the rows of all diffusers tensors one below the other; `swapped`: the two halves of the rows
            change places (the original has shift, scale; diffusers' continuous adaLN has scale, shift); `conv1x1`: `[o, i]` there,
            `[o, i, 1, 1]` in the original.
    """

    original: str
    diffusers: tuple[str, ...]
    form: str = "same"


def both(original: str, diffusers: str, *, form: str = "same") -> list[Pair]:
    """Weight and bias of one layer."""
    return [Pair(original + end, (diffusers + end,), form) for end in BOTH]


def original_names(state: Mapping[str, Tensor], pairs: Sequence[Pair], *, what: str) -> dict[str, Tensor]:
    """`state` under diffusers names -> under original names, by the table."""
    check_names(state, [name for pair in pairs for name in pair.diffusers], what=what)
    return {pair.original: _join(pair, [state[name] for name in pair.diffusers]) for pair in pairs}


def diffusers_names(state: Mapping[str, Tensor], pairs: Sequence[Pair], *, what: str) -> dict[str, Tensor]:
    """`state` under original names -> under diffusers names, by the table."""
    check_names(state, [pair.original for pair in pairs], what=what)
    return {
        name: tensor
        for pair in pairs
        for name, tensor in zip(pair.diffusers, _split(pair, state[pair.original]), strict=True)
    }


def check_names(state: Iterable[str], expected: Iterable[str], *, what: str) -> None:
    """Raise `DataError` unless both hold the same names."""
    have, want = set(state), set(expected)
    missing, unknown = sorted(want - have), sorted(have - want)
    if not missing and not unknown:
        return
    said = [f"{len(missing)} missing: {listed(missing)}"] if missing else []
    hints = [f"'{name}'{did_you_mean(name, missing or want)}" for name in unknown[:MOST]]
    said += [f"{len(unknown)} unknown: {listed(hints, of=len(unknown), quoted=True)}"] if unknown else []
    # More than half of the names are there: a part is lost, whatever else the file resembles.
    kind = looks_like(have) if len(have & want) <= len(want) / 2 else None
    raise DataError(
        f"the keys are not those of {what}{_likeness(kind)}: {'; '.join(said)}",
        why=PARTLY,
        do=f"give {what} instead" if kind else "check that the file is whole and of this family",
    )


def num_blocks(state: Iterable[str], pattern: str, *, what: str) -> int:
    """How many blocks the names speak of; `pattern` captures the number of a block at the start of its names.

    Raises:
        DataError: there is none, or one is left out.
    """
    names = list(state)
    indices = sorted({int(match[1]) for name in names if (match := re.match(pattern, name))})
    if not indices and (kind := looks_like(names)):
        raise DataError(
            f"the keys are not those of {what}{_likeness(kind)}",
            do=f"give {what} instead; the first keys of this one are {listed(sorted(names))}",
        )
    if not indices or indices != list(range(len(indices))):
        raise DataError(
            f"the keys are not those of {what}: block numbers {indices[:8]} instead of 0, 1, 2, ...",
            why="the number of blocks is read from the keys",
            do=f"check that the file is whole; its first keys are {listed(sorted(names))}",
        )
    return len(indices)


def located(
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], state: Mapping[str, Tensor], where: Path
) -> dict[str, Tensor]:
    """`convert(state)`, with the name of the file or folder in its complaint."""
    try:
        return convert(state)
    except DataError as error:
        raise DataError(error.what, where=error.where or str(where), why=error.why, do=error.do) from error


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """`state` with `prefix` before every name."""
    return {prefix + name: tensor for name, tensor in state.items()}


def without(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part of `state` whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def parts(state: Mapping[str, Tensor], prefixes: Sequence[str], *, alone: str) -> dict[str, dict[str, Tensor]]:
    """An all-in-one file taken apart: prefix -> state without it. A file without any known prefix is the part `alone`.

    Raises:
        DataError: some keys have a known prefix and others have none.
    """
    found: dict[str, dict[str, Tensor]] = {}
    bare: list[str] = []
    for name, tensor in state.items():
        prefix = next((known for known in prefixes if name.startswith(known)), None)
        if prefix is None:
            bare.append(name)
        else:
            found.setdefault(prefix, {})[name.removeprefix(prefix)] = tensor
    if not found:
        return {alone: dict(state)}
    if bare:
        raise DataError(
            f"{len(bare)} keys belong to no known part: {listed(bare)}{_likeness(looks_like(state))}",
            do=f"known prefixes: {', '.join(prefixes)}",
        )
    return found


def listed(names: Sequence[str], *, of: int | None = None, quoted: bool = False) -> str:
    """The first names for a message; `of`: how many there are, where `names` is already cut."""
    shown = ", ".join(name if quoted else f"'{name}'" for name in names[:MOST])
    more = (of or len(names)) - min(len(names), MOST)
    return shown + (f" and {more} more" if more > 0 else "")


def _likeness(kind: str | None) -> str:
    return f"; this looks like {kind}" if kind else ""


def _join(pair: Pair, tensors: Sequence[Tensor]) -> Tensor:
    if pair.form == "stacked":
        if len({(tensor.shape, tensor.dtype) for tensor in tensors}) > 1:
            facts = [f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in tensors]
            raise DataError(f"{', '.join(pair.diffusers)} differ in shape or dtype: {facts}", where=pair.original)
        return torch.cat(list(tensors))
    return _swap(pair, tensors[0]) if pair.form == "swapped" else _reshape(pair, tensors[0], to_conv=True)


def _split(pair: Pair, tensor: Tensor) -> list[Tensor]:
    if pair.form == "stacked":
        if tensor.shape[0] % len(pair.diffusers):
            raise DataError(
                f"'{pair.original}' has {tensor.shape[0]} rows, which do not divide into {len(pair.diffusers)}"
            )
        return [part.clone() for part in tensor.chunk(len(pair.diffusers))]
    return [_swap(pair, tensor) if pair.form == "swapped" else _reshape(pair, tensor, to_conv=False)]


def _swap(pair: Pair, tensor: Tensor) -> Tensor:
    if tensor.shape[0] % 2:
        raise DataError(f"'{pair.original}' has {tensor.shape[0]} rows, which do not divide into two halves")
    first, second = tensor.chunk(2)
    return torch.cat([second, first])


def _reshape(pair: Pair, tensor: Tensor, *, to_conv: bool) -> Tensor:
    if pair.form != "conv1x1":
        return tensor
    return tensor[:, :, None, None] if to_conv else tensor.flatten(1)
