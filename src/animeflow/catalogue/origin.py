"""Where a picture is from, out of all that speaks of it. Knows signs and a source's claim; knows no file and no detector.

Evidence ranks: a reviewer's word (in the log of decisions, `curate`), what the site says of this post, what its file says, what was
claimed for a whole folder. A detector's score is no evidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..image.evidence.sign import GRADES, Sign

SAID_BY_SITE = ("tag", "field")
_CLAIMS = ("ai", "ai_assisted", "drawn_by_program", "human", "unknown")  # of two, the earlier one is believed


@dataclass(frozen=True)
class Origin:
    """What is known: one of `post.ORIGINS`, the words of the signs that say so, strongest first, and the tool that made it."""

    origin: str
    evidence: tuple[str, ...] = ()
    generator: str | None = None


def origin_of(claimed: str, told: Iterable[str], signs: Iterable[str], *, generator: str | None = None) -> Origin:
    """Weigh it.

    Args:
        claimed: what the source says of all its pictures, or of this one without a reason.
        told: words of signs that the post's own record holds.
        signs: words of signs that its file holds.
        generator: that the record names.
    """
    found = sorted({Sign.parse(word) for word in (*told, *signs)}, key=_rank)
    if not found:
        return Origin(claimed, (), generator)
    tool = generator or next((sign.tool for sign in found if sign.tool and sign.kind not in SAID_BY_SITE), None)
    origin = "ai" if claimed == "ai" else found[0].says
    return Origin(origin, tuple(sign.word for sign in found), tool)


def strongest(claims: Iterable[str]) -> str:
    """Of what several sources claim of the same bytes. An order of sources changes nothing."""
    return min(claims, key=_CLAIMS.index)


def kind_of(word: str) -> str:
    """Of a sign's word: the place that says it."""
    return Sign.parse(word).kind


def _rank(sign: Sign) -> tuple[bool, int, str]:
    return sign.kind not in SAID_BY_SITE, GRADES.index(sign.grade), sign.word
