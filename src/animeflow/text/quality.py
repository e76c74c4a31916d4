"""Scores of posts to words of quality, by their rank among posts of one rating and year. Knows numbers and facts; knows no file.

What people favour changes with the years and with the rating, so a score says little by itself. A post is ranked among those of its
rating and year; where they are too few, among those of its rating; then among all. A label belongs to every score that as large a
share of the group lies below, counting half of those with the same score.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..core.files import address

WORDS: Mapping[str, float] = {
    "masterpiece": 0.95,
    "best_quality": 0.85,
    "good_quality": 0.6,
    "normal_quality": 0.3,
    "low_quality": 0.1,
    "worst_quality": 0.0,
}
"""Label -> the share of its group that a post has to leave behind."""

SCORES: Mapping[str, float] = {f"score_{number}": round((number - 1) / 9, 4) for number in range(9, 0, -1)}
"""Nine labels for nine equal parts."""

SMALLEST = 100
"""Posts that a group needs."""

ALL = "all"


@dataclass(frozen=True)
class Bounds:
    """The lowest score of every label, in every group that is large enough.

    Attributes:
        ladders: labels and the share that each begins at; of each ladder a post gets one label.
        smallest: posts that a group needs.
        groups: group (`general/2024`, `general`, `all`) -> label -> its lowest score, None for "any".
        posts: group -> how many posts have a score.
    """

    ladders: tuple[Mapping[str, float], ...]
    smallest: int
    groups: Mapping[str, Mapping[str, int | None]]
    posts: Mapping[str, int]

    @classmethod
    def measure(
        cls, facts: Iterable[Mapping[str, Any]], *, ladders: Iterable[Mapping[str, float]], smallest: int = SMALLEST
    ) -> Bounds:
        """Of the posts of a set, in any order."""
        scores: dict[str, Counter[int]] = defaultdict(Counter)
        for post in facts:
            if (score := post.get("score")) is not None:
                for group in groups_of(post):
                    scores[group][score] += 1
        ladders = tuple(dict(ladder) for ladder in ladders)
        large = {group: found for group, found in sorted(scores.items()) if found.total() >= smallest}
        groups = {
            group: dict(pair for ladder in ladders for pair in _lowest(found, ladder)) for group, found in large.items()
        }
        return cls(ladders, smallest, groups, {group: found.total() for group, found in large.items()})

    def labels(self, facts: Mapping[str, Any]) -> list[str]:
        """The labels of a post, one of each ladder; none without a score, or where no group is large enough."""
        score, group = facts.get("score"), self.group(facts)
        if score is None or group is None:
            return []
        lowest, found = self.groups[group], []
        for ladder in self.ladders:
            reached = [name for name in ladder if name in lowest and (lowest[name] is None or score >= lowest[name])]
            found += [max(reached, key=lambda name: ladder[name])] if reached else []
        return found

    def group(self, facts: Mapping[str, Any]) -> str | None:
        """The smallest group of a post that is large enough."""
        return next((group for group in groups_of(facts) if group in self.groups), None)

    def facts(self) -> dict[str, Any]:
        """JSON of all of it, for the file that a set keeps."""
        return {
            "ladders": [dict(ladder) for ladder in self.ladders],
            "smallest": self.smallest,
            "groups": {group: dict(lowest) for group, lowest in self.groups.items()},
            "posts": dict(self.posts),
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Bounds:
        """The inverse of `facts`; further keys are ignored."""
        return cls(tuple(facts["ladders"]), facts["smallest"], facts["groups"], facts["posts"])

    @cached_property
    def identity(self) -> str:
        """A hash of what decides labels."""
        return address(**{name: value for name, value in self.facts().items() if name != "posts"})


def groups_of(facts: Mapping[str, Any]) -> list[str]:
    """The groups of a post, the narrowest first."""
    rating, year = str(facts.get("rating") or "unknown"), str(facts.get("created_at") or "")[:4]
    return [*([f"{rating}/{year}"] if year.isdecimal() else []), rating, ALL]


def _lowest(scores: Counter[int], ladder: Mapping[str, float]) -> Iterator[tuple[str, int | None]]:
    """Label and its lowest score; a label that nobody reaches is left out."""
    total, below, ranks = scores.total(), 0, []
    for score, posts in sorted(scores.items()):
        ranks.append((score, (below + posts / 2) / total))
        below += posts
    for label, share in ladder.items():
        if share <= 0:
            yield label, None
        elif reached := [score for score, rank in ranks if rank >= share]:
            yield label, reached[0]
