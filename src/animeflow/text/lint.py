"""Faults of tags and prompts that cost a tag its effect: unread signs, wrong names, `@`, parentheses. Knows a database of tags.

What a text encoder cannot read is asked of a function, for tokenizers live elsewhere.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .database import TagDatabase
from .emphasis import parse, unescape
from .prompt_parts import cut
from .reading import SENTENCE
from .script import base
from .tags import to_name, to_words

Unread = Callable[[str], list[str]]
"""The pieces of a text that a tokenizer has no token for."""

FAULTS = {
    "unreadable": "signs that the text encoder cannot read",
    "artist sign": "artists without their @, with two, or an @ before something else",
    "parentheses": "parentheses that a prompt takes for emphasis",
    "underscores": "underscores in a prompt",
    "unknown": "tags that the database has not",
    "deprecated": "tags that their site has given up",
    "alias": "other names in place of the canonical one",
    "form": "names that are not in the stored form",
}
SUGGESTED = 50  # of the unknown tags, the most frequent get a suggestion: looking for one takes a while
_LITERAL = re.compile(r"(?<![\\(:,])\s*(?<!\\)\((?![^()]*:\s*[\d.]+\s*\))[^()]+(?<!\\)\)")


@dataclass(frozen=True)
class Finding:
    """One fault: of what, in words what is wrong, and how many pictures or prompts have it."""

    fault: str
    text: str
    detail: str
    count: int = 1


@dataclass
class Lint:
    """Findings by fault, the most frequent first."""

    looked_at: int = 0
    blocked: int = 0
    found: dict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))

    def add(self, findings: Iterable[Finding]) -> None:
        for each in findings:
            self.found[each.fault].append(each)

    def lines(self, examples: int = 8) -> list[str]:
        """The report in words."""
        lines = [
            f"looked at {self.looked_at:,}{f'; forbidden ones among them, not shown: {self.blocked:,}' if self.blocked else ''}"
        ]
        for fault in FAULTS:
            if found := self._sorted(fault):
                lines.append(f"{FAULTS[fault]}: {len(found):,} ({sum(each.count for each in found):,} uses)")
                lines += [f"  {each.text}: {each.detail} ({each.count:,})" for each in found[:examples]]
        return lines

    def to_json(self, examples: int = 100) -> dict[str, Any]:
        faults = {
            fault: {
                "tags": len(found),
                "uses": sum(each.count for each in found),
                "examples": [{"text": e.text, "detail": e.detail, "count": e.count} for e in found[:examples]],
            }
            for fault in FAULTS
            if (found := self._sorted(fault))
        }
        return {"looked_at": self.looked_at, "blocked": self.blocked, "faults": faults}

    def _sorted(self, fault: str) -> list[Finding]:
        return sorted(self.found.get(fault, ()), key=lambda each: (-each.count, each.text))


def lint_tags(tags: Iterable[tuple[str, str, int]], database: TagDatabase, *, unread: Unread | None = None) -> Lint:
    """Faults of stored tags: (name, category, how many pictures have it)."""
    lint, unknown = Lint(), []
    for name, category, count in tags:
        lint.looked_at += 1
        if database.is_blocked(name):
            lint.blocked += 1
            continue
        bare = name.lstrip("@") if category == "artist" or database.category(name) is None else name
        lint.add(_sign_of_name(name, bare, category, count, database))
        if name != to_name(name):
            lint.add([Finding("form", name, f"stored as {to_name(name)}", count)])
        if unread and (pieces := unread(to_words(bare))):
            lint.add([Finding("unreadable", name, _unread(pieces), count)])
        known = database.category(bare)
        if known is not None and database.is_deprecated(bare):
            lint.add([Finding("deprecated", name, "no longer used where it is from", count)])
        elif known is None:
            if target := _alias(bare, database):
                lint.add([Finding("alias", name, f"another name of {target}", count)])
            else:
                unknown.append((count, name))
    lint.add(_unknown(unknown, database))
    return lint


def lint_prompts(
    prompts: Iterable[str], database: TagDatabase, *, artist_sign: str = "", unread: Unread | None = None
) -> Lint:
    """Faults of prompts as they are typed. `artist_sign`: what the family writes before an artist, `@` or nothing."""
    from .normalise import normalise

    lint, unknown = Lint(), []
    for prompt in prompts:
        lint.looked_at += 1
        lint.add(_parentheses(prompt, database))
        parts = normalise(prompt, database, language="en").parts
        lint.blocked += sum(not part.typed for part in parts)
        words = " ".join(text for text, _ in parse(prompt))
        if unread and (pieces := unread(words)):
            lint.add([Finding("unreadable", prompt, _unread(pieces))])
        for part in parts:
            if part.status == SENTENCE or not part.typed:
                continue
            text = unescape(part.typed)
            bare = text.lstrip("@") or text
            name = to_name(bare)
            if "_" in text and to_words(name) != name:
                lint.add([Finding("underscores", text, f"write {to_words(name)}")])
            category = database.category(name)
            lint.add(_sign_in_prompt(text, bare, category, artist_sign))
            if category is not None and database.is_deprecated(name):
                lint.add([Finding("deprecated", text, "no longer used where it is from")])
            elif category is None and (target := _alias(bare, database)):
                lint.add([Finding("alias", text, f"another name of {to_words(target)}")])
            elif category is None:
                unknown.append((1, name))
    lint.add(_unknown(unknown, database))
    return lint


def _sign_of_name(name: str, bare: str, category: str, count: int, database: TagDatabase) -> Iterator[Finding]:
    if bare == name or not bare:
        return
    if category == "artist":
        yield Finding(
            "artist sign", name, "the sign is written by captions; in the name it would be there twice", count
        )
    elif database.category(bare) is not None:
        yield Finding("artist sign", name, f"{bare} is stored without @", count)


def _sign_in_prompt(text: str, bare: str, category: str | None, sign: str) -> Iterator[Finding]:
    signs = len(text) - len(bare)
    if category == "artist" and sign and not signs:
        yield Finding("artist sign", text, f"an artist without {sign}: write {sign}{bare}")
    elif category == "artist" and (signs > 1 or (signs and not sign)):
        yield Finding("artist sign", text, f"write {sign}{bare}")
    elif category not in (None, "artist") and signs:
        yield Finding("artist sign", text, f"{bare} is no artist: write {bare}")


def _parentheses(prompt: str, database: TagDatabase) -> Iterator[Finding]:
    """Text that stands before a parenthesis without a number was meant as a name: `oil painting (medium)`."""
    for piece in cut(prompt, lambda text: True):
        for found in _LITERAL.finditer(piece.text):
            before = piece.text[: found.start()].strip()
            if before and not before.endswith(("(", ")")) and not database.resolve(found[0].strip()):
                name = piece.text.strip()
                detail = "the parentheses weigh the word and are gone; write " + re.sub(r"(?<!\\)([()])", r"\\\1", name)
                yield Finding("parentheses", name, detail)
                break


def _alias(name: str, database: TagDatabase) -> str | None:
    """The one tag that a name is an English alias of."""
    found = [match for match in database.resolve(name, "en") if base(match.language) in ("en", "und")]
    return found[0].name if len(found) == 1 and found[0].kind != "canonical" else None


def _unknown(names: list[tuple[int, str]], database: TagDatabase) -> Iterator[Finding]:
    names = sorted(names, reverse=True)
    known = [name for name, _, _ in database.names()] if names else []
    for place, (count, name) in enumerate(names):
        near = []
        if place < SUGGESTED:
            like = [each for each in known if each[:1] == name[:1] and abs(len(each) - len(name)) <= 2]
            near = difflib.get_close_matches(name, like, n=1, cutoff=0.75)
        yield Finding("unknown", name, f"did you mean {near[0]}?" if near else "nothing is near", count)


def _unread(pieces: list[str]) -> str:
    return "no token for " + " ".join(dict.fromkeys(pieces))
