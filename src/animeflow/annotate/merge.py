"""Tags of people and of taggers to one list. Pure; knows no file.

What a person wrote is never taken out, moved or outvoted. A tagger's tag comes in where enough of them agree, above the threshold
of its category, and where the policy lets it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..core.errors import ConfigError, did_you_mean
from ..text.blocklist import Blocklist
from ..text.tags import CATEGORIES

FILLS = ("missing", "add")
THRESHOLDS = {"general": 0.35, "character": 0.85, "copyright": 0.85, "artist": 0.9, "meta": 0.9}


@dataclass(frozen=True, kw_only=True)
class MergePolicy:
    """When a tagger's tag counts.

    Args:
        use: names of the taggers that are asked; none by default, and then nothing changes.
        thresholds: score from which a tagger says yes, by category.
        agree: how many of `use` have to say yes.
        fill: `missing` fills categories in which no person wrote anything; `add` adds to what they wrote.
        categories: that are filled at all.
    """

    use: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=lambda: dict(THRESHOLDS))
    agree: int = 1
    fill: str = "missing"
    categories: tuple[str, ...] = ("general", "character", "copyright")

    def __post_init__(self) -> None:
        for names in (self.thresholds, self.categories):
            for name in names:
                if name not in CATEGORIES:
                    raise ConfigError(
                        f"unknown category '{name}'{did_you_mean(str(name), CATEGORIES)}", where="annotate.merge"
                    )
        if self.fill not in FILLS:
            raise ConfigError(
                f"unknown fill '{self.fill}'{did_you_mean(str(self.fill), FILLS)}", where="annotate.merge.fill",
                do=f"choose one of: {', '.join(FILLS)}",
            )  # fmt: skip
        if not 1 <= self.agree <= max(1, len(self.use)):
            raise ConfigError(
                f"agree={self.agree}, and {len(self.use)} taggers are asked", where="annotate.merge.agree"
            )


def merged(
    human: Mapping[str, Sequence[str]],
    told: Mapping[str, Mapping[str, float]],
    policy: MergePolicy,
    *,
    blocklist: Blocklist | None = None,
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Tags by category, people's first in their order; and those of them that only taggers gave.

    Args:
        human: category -> names.
        told: tagger -> `category:name` -> score.
        blocklist: the project's unless given. No tagger's tag that is on it comes in.
    """
    blocked, written = blocklist or Blocklist.default(), {name for names in human.values() for name in names}
    machine: dict[str, list[str]] = {}
    for category in policy.categories:
        if policy.fill == "missing" and human.get(category):
            continue
        votes: dict[str, list[float]] = {}
        for tool in policy.use:
            for word, score in told.get(tool, {}).items():
                kind, _, name = word.partition(":")
                if kind == category and score >= policy.thresholds.get(category, 1.0) and name not in written:
                    votes.setdefault(name, []).append(score)
        agreed = {name: sum(scores) / len(scores) for name, scores in votes.items() if len(scores) >= policy.agree}
        found = sorted(agreed, key=lambda name: (-agreed[name], name))
        if found := [name for name in found if not blocked.blocked([name])]:
            machine[category] = found
    tags = {category: [*human.get(category, ()), *machine.get(category, ())] for category in CATEGORIES}
    return tags, machine
