"""Whether a LoRA is sound, as a list of findings. Knows additions, dialects and the shapes of a base; knows no file and no family.

The comparison of dialects is done in float32, where reading back has to give the same delta W to `EXACT`. Rounding to the 16 bits
of a file is a matter apart: bf16 keeps 8 bits of each number, so delta W moves by a few thousandths, in whatever dialect.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import AnimeflowError
from ..model.dialect import Dialect
from ..model.low_rank import LowRank, LowRankState
from .file_audit import audit_tensors
from .finding import ERROR, OK, WARNING, Finding, listed
from .spectrum import distance, norm

EXACT = 1e-6  # of |delta W|, in float32
USUAL = (0.25, 4.0)  # scales alpha / rank that surprise nobody
# Of |W|. A small base that learns fast comes to once its weights in all layers and draws well; a run that blew up is far beyond
# that, in all its layers or in one.
LOUD = 2.0


@dataclass(frozen=True)
class LayerFacts:
    """One layer: `norm` is |delta W|, `share` that of |W| where the base's weights are known."""

    rank: int
    alpha: float
    scale: float
    norm: float
    share: float | None = None


@dataclass(frozen=True)
class Audit:
    """What was found, and the numbers of every layer."""

    findings: tuple[Finding, ...]
    layers: Mapping[str, LayerFacts]

    @property
    def sound(self) -> bool:
        return all(finding.level != ERROR for finding in self.findings)


def audit(
    state: LowRankState,
    *,
    dialects: Mapping[str, Dialect],
    dialect: str,
    tensors: Mapping[str, Tensor] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Audit:
    """Every check of additions that were read from a file.

    Args:
        dialects: of the family, by name; `dialect` is the file's.
        tensors: of the file under its own names.
        shapes: of the base's layers by name, where one is given; `weights` too, for |W|.
    """
    broken = [name for name, each in state.items() if not _finite(each)]
    sound = {name: each for name, each in state.items() if name not in broken}
    layers = {name: _facts(each, (weights or {}).get(f"{name}.weight")) for name, each in sound.items()}
    findings = [
        Finding("keys", OK, f"every key belongs to one of {len(state)} layers, in the names of {dialect}"),
        *([] if tensors is None else audit_tensors(tensors)),
        _numbers(broken, len(state)),
        *([] if shapes is None else [_fits(state, shapes)]),
        *_scales(layers),
        *_lengths(layers, unread=dialects[dialect].unread(shapes or state), with_base=weights is not None),
        *_dora(state, dialects[dialect]),
        *(_round_trip(name, each, sound) for name, each in dialects.items()),
    ]
    return Audit(tuple(findings), layers)


def compare(state: LowRankState, other: LowRankState) -> float:
    """The largest |delta W - delta W'| / |delta W| of any layer; a layer that one of them lacks adds nothing there. Infinite where
    shapes or lengths of DoRA differ."""
    shares = [_apart(each, other[name]) if name in other else _alone(each) for name, each in state.items()]
    return max([*shares, *(_alone(each) for name, each in other.items() if name not in state)], default=0.0)


def _alone(addition: LowRank) -> float:
    return 0.0 if addition.magnitude is None and norm(addition) == 0 else float("inf")


def _apart(one: LowRank, other: LowRank) -> float:
    if (one.magnitude is None) != (other.magnitude is None):
        return float("inf")
    shares = [_share(distance(one, other), norm(one))]
    if one.magnitude is not None and other.magnitude is not None:
        length = one.magnitude.double()
        moved = torch.linalg.vector_norm(other.magnitude.double() - length)
        shares.append(_share(float(moved), float(torch.linalg.vector_norm(length))))
    return max(shares)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else (0.0 if part == 0 else float("inf"))


def _finite(addition: LowRank) -> bool:
    parts = [addition.down, addition.up, torch.tensor(float(addition.alpha))]
    parts += [] if addition.magnitude is None else [addition.magnitude]
    return all(bool(torch.isfinite(part).all()) for part in parts)


def _facts(addition: LowRank, weight: Tensor | None) -> LayerFacts:
    length = norm(addition)
    share = None if weight is None else _share(length, float(torch.linalg.vector_norm(weight.double())))
    return LayerFacts(addition.rank, float(addition.alpha), addition.scale, length, share)


def _numbers(broken: list[str], count: int) -> Finding:
    if not broken:
        return Finding("numbers", OK, "every number is finite")
    return Finding(
        "numbers", ERROR, f"{len(broken)} of {count} layers hold NaN or infinity: {listed(broken)}",
        why="every picture becomes black", do="take an earlier file of the run: this one had diverged",
    )  # fmt: skip


def _fits(state: LowRankState, shapes: Mapping[str, tuple[int, ...]]) -> Finding:
    unknown = [name for name in state if name not in shapes]
    wrong = [
        f"{name} {each.up.shape[0]} x {each.down.shape[1]} instead of {' x '.join(map(str, shapes[name]))}"
        for name, each in state.items()
        if name in shapes and (each.up.shape[0], *each.down.shape[1:]) != tuple(shapes[name])
    ]
    if not unknown and not wrong:
        return Finding("base", OK, f"the base has all {len(state)} layers, in these shapes")
    said = [f"{len(unknown)} layers that the base lacks: {listed(unknown)}"] if unknown else []
    said += [f"{len(wrong)} of another shape: {listed(wrong)}"] if wrong else []
    return Finding(
        "base", ERROR, "; ".join(said), why="programs leave such layers out without a word, or stop",
        do="use it with the base that it was trained on",
    )  # fmt: skip


def _scales(layers: Mapping[str, LayerFacts]) -> Iterator[Finding]:
    """alpha / rank is what programs multiply with, and what a learning rate has to be read by."""
    kinds = Counter((each.rank, each.alpha) for each in layers.values())
    said = [
        f"rank {rank} alpha {alpha:g} (scale {alpha / rank:.4g}): {n} layers"
        for (rank, alpha), n in kinds.most_common(4)
    ]
    said += [f"{len(kinds) - 4} more kinds"] if len(kinds) > 4 else []
    odd = sorted({each.scale for each in layers.values() if not USUAL[0] <= each.scale <= USUAL[1]})
    if not odd:
        yield Finding("scale", OK, "; ".join(said) or "no layer")
        return
    small = odd[0] < USUAL[0]
    yield Finding(
        "scale", WARNING, "; ".join(said),
        why=f"alpha / rank is {odd[0]:.4g}: it learned as at {'a lower' if small else 'a higher'} rate, and a program that "
        "overlooks alpha draws something else"
        + ("; kohya's scripts write alpha 1 when they are told none" if small else ""),
        do=f"when you train again with alpha = rank, multiply its learning rate by {odd[0]:.4g}",
    )  # fmt: skip


def _lengths(layers: Mapping[str, LayerFacts], *, unread: Mapping[str, str], with_base: bool) -> Iterator[Finding]:
    nothing = [name for name, each in layers.items() if each.norm == 0]
    if layers and len(nothing) == len(layers):
        yield Finding(
            "delta W", ERROR, "every delta W is zero: this LoRA does nothing", why="B is zero until the first step",
            do="take a later file of the run",
        )  # fmt: skip
        return
    told = sorted(((each.norm, name) for name, each in layers.items() if each.norm > 0), reverse=True)
    if not told:
        return
    what = f"|delta W| from {told[-1][0]:.3g} to {told[0][0]:.3g}, most in {told[0][1]}"
    for name in [name for name in nothing if name in unread]:
        what += f"; zero in {name}, as it has to be: {unread[name]}"
    if nothing := [name for name in nothing if name not in unread]:
        yield Finding(
            "delta W", WARNING, f"{what}; zero in {len(nothing)} layers: {listed(nothing)}",
            why="these layers did not learn, or were written to fill a joined one",
        )  # fmt: skip
    else:
        yield Finding("delta W", OK, what)
    if with_base:
        yield _beside_base({name: each.share for name, each in layers.items() if each.share is not None})


def _beside_base(shares: Mapping[str, float]) -> Finding:
    worst = max(shares, key=lambda name: shares[name], default=None)
    if worst is None:
        return Finding("beside W", WARNING, "none of the layers has a weight in the base")
    middle = statistics.median(shares.values())
    what = f"|delta W| / |W|: {middle:.2%} in the middle, {shares[worst]:.2%} at most ({worst})"
    loud = [name for name, share in shares.items() if share > LOUD]
    if not loud:
        return Finding("beside W", OK, what)
    return Finding(
        "beside W", WARNING, f"{what}; above {LOUD:.0%} in {len(loud)} layers: {listed(loud)}",
        why="so long an addition is what a run looks like that blew up", do="lower its strength, or take an earlier file",
    )  # fmt: skip


def _dora(state: LowRankState, dialect: Dialect) -> Iterator[Finding]:
    with_lengths = {name: each for name, each in state.items() if each.magnitude is not None}
    if not with_lengths:
        return
    readers = ", ".join(dialect.readers_of(with_lengths)) or "no program"
    notes = " ".join(dialect.notes(with_lengths))
    yield Finding(
        "DoRA", WARNING, f"{len(with_lengths)} layers have lengths of their own (DoRA)",
        why=f"in the names of {dialect.name} read by {readers}; others apply it as a plain LoRA, which draws something else. "
        f"{notes}".rstrip(),
        do="merge it into a model where every program should draw the same: animeflow lora merge FILE --base BASE",
    )  # fmt: skip


def _round_trip(name: str, dialect: Dialect, state: LowRankState) -> Finding:
    """Written in float32 and read again."""
    label, plain = f"as {name}", {layer: _float32(each) for layer, each in state.items()}
    written = _written(dialect, plain)
    if isinstance(written, str):
        return Finding(label, WARNING, f"cannot be written: {written}")
    try:
        error = compare(plain, dialect.read(written))
    except AnimeflowError as problem:
        return Finding(label, ERROR, f"what it writes cannot be read back: {problem.what}", do="report this")
    if error > EXACT:
        return Finding(
            label, ERROR, f"delta W comes back {error:.2g} apart, more than {EXACT:g}",
            why="another program would draw something else", do="report this, with the file",
        )  # fmt: skip
    return Finding(
        label, OK, f"delta W comes back within {max(error, 1e-16):.1g}; read by {', '.join(dialect.readers_of(state))}"
    )


def _written(dialect: Dialect, state: LowRankState) -> dict[str, Tensor] | str:
    """The tensors, or why there are none."""
    try:
        return dialect.write(state)
    except AnimeflowError as problem:
        return problem.what


def _float32(addition: LowRank) -> LowRank:
    magnitude = None if addition.magnitude is None else addition.magnitude.float()
    return LowRank(addition.down.float(), addition.up.float(), float(addition.alpha), magnitude)


def report(found: Audit, **facts: Any) -> dict[str, Any]:
    """JSON: facts of the file, whether it is sound, the findings and the numbers of every layer."""
    return {
        **facts,
        "sound": found.sound,
        "findings": [finding.to_json() for finding in found.findings],
        "layers": {name: _plain(each) for name, each in found.layers.items()},
    }


def _plain(facts: LayerFacts) -> dict[str, float]:
    told: Iterable[tuple[str, float | None]] = vars(facts).items()
    return {key: value for key, value in told if value is not None}
