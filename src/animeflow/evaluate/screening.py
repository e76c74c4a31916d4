"""What the screens found of what was planted, and what they took besides. Knows truths and fates; knows no screen.

A find is judged by its effect on the set: of a drawing and its copy one is in, a version stays and is known as one, a machine-made
or watermarked picture is out. A picture that nobody planted and that is out is a false alarm, whatever the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

OUTCOMES = {
    "copy": "refused: the same bytes",
    "repacked": "one of the two is in",
    "jpeg": "one of the two is in",
    "resize": "one of the two is in",
    "crop": "one of the two is in",
    "mirrored": "one of the two is in",
    "variant": "both are in, and known as versions",
    "generated": "out, by what its file says",
    "watermarked": "out, by a rule that somebody approved",
}
"""Kind of a plant -> what has to become of it."""


@dataclass(frozen=True)
class Fate:
    """What became of one file.

    Attributes:
        inside: it is in the set.
        why: the reason it was refused for, or the step that decided.
        duplicate, variant: the groups that it is in, None for none.
    """

    inside: bool
    why: str
    duplicate: int | None = None
    variant: int | None = None


@dataclass
class Found:
    """Of one kind: how many were planted, how many were found, and the files that were not."""

    planted: int = 0
    found: int = 0
    missed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Screening:
    """Attributes:
    kinds: kind of a plant -> what was found of it.
    ordinary: pictures that nobody planted. lost: those of them that are out, with the step that took them.
    """

    kinds: dict[str, Found]
    ordinary: int
    lost: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Screening:
        kinds = {kind: Found(**found) for kind, found in value["kinds"].items()}
        return cls(kinds, int(value["ordinary"]), dict(value["lost"]))

    def lines(self) -> list[str]:
        """For a terminal, one line a kind."""
        rows = [
            f"{kind:<12} {found.found:>4} of {found.planted}: {OUTCOMES[kind]}" for kind, found in self.kinds.items()
        ]
        return [*rows, f"{'false alarms':<12} {len(self.lost):>4} of {self.ordinary:,} pictures that nobody planted"]


def screened(plants: Iterable[Mapping[str, Any]], fates: Mapping[str, Fate]) -> Screening:
    """Compare.

    Args:
        plants: lines of `planted.jsonl`: `file`, and `planted` with `kind` and `of`.
        fates: of every file that was looked at, by its name.
    """
    kinds: dict[str, Found] = {}
    spared: set[str] = set()  # originals whose copy was taken in their stead
    planted = set()
    for line in plants:
        file, kind, of = line["file"], line["planted"]["kind"], line["planted"]["of"]
        planted.add(file)
        found = kinds.setdefault(kind, Found())
        found.planted += 1
        if _is_found(kind, fates.get(file), fates.get(of) if of else None):
            found.found += 1
            spared |= {of} if of and OUTCOMES[kind].startswith("one") else set()
        else:
            found.missed.append(file)
    ordinary = {file: fate for file, fate in fates.items() if file not in planted}
    lost = {file: fate.why for file, fate in sorted(ordinary.items()) if not fate.inside and file not in spared}
    return Screening(kinds, len(ordinary), lost)


def _is_found(kind: str, fate: Fate | None, original: Fate | None) -> bool:
    if fate is None:
        return False
    if kind == "copy":
        return fate.why == "duplicate_file"
    if kind == "variant":
        known = original is not None and fate.variant is not None and fate.variant == original.variant
        return bool(known and original and original.inside and fate.inside)
    if original is not None:
        together = fate.duplicate is not None and fate.duplicate == original.duplicate
        return together and fate.inside != original.inside
    return not fate.inside
