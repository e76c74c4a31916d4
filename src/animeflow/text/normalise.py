"""A prompt in any language as canonical tags, with a report of every part. Knows a dictionary of tags; knows no model.

Text encoders that never saw a script read it as unknown: a prompt of seven Japanese tags leaves T5 nothing. Here its words are
looked up instead. What is not found is kept and told, what means several tags is told with the choice, sentences are left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..core.errors import ConfigError
from .blocklist import Blocklist
from .database import Match
from .emphasis import escape
from .prompt_parts import SENTENCE_END, cut
from .script import base, language_code, languages_of, without_spaces
from .tags import to_words

KEPT, READ, COMPOSED, AMBIGUOUS, UNKNOWN, SENTENCE, BLOCKED = (
    *("kept", "read", "composed", "ambiguous", "unknown", "sentence", "blocked"),
)
LONG_WORDS, LONG_SIGNS = 4, 9  # an unknown part of this length is a piece of a sentence
PARTICLES = frozenset(("の", "と", "な", "が", "で", "に", "を", "は", "も", "的", "和", "着"))
AT_MOST = 6  # words that are looked for in one part without spaces


_GONE = "\0"
_EMPTY = re.compile(r"\(\s*\0[\s,\0]*(?::[^()]*)?\)")  # emphasis of what is gone
_BEHIND = re.compile(r"\0[\s,]*")


class Dictionary(Protocol):
    """What a `TagDatabase` knows of words."""

    def resolve(self, surface: str, language: str | None = None) -> list[Match]: ...

    def languages(self, surface: str) -> frozenset[str]: ...

    def is_blocked(self, surface: str) -> bool: ...


@dataclass(frozen=True)
class Part:
    """A part of a prompt, and what became of it.

    Attributes:
        typed: as it was; empty where it is forbidden.
        read: as it is now.
        status: kept, read, composed, ambiguous, unknown, sentence or blocked.
        choice: the tags that it may mean, the one that was taken first.
    """

    typed: str
    read: str
    status: str
    choice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """A prompt as it is read: the text, its language, every part, and how it was typed, without what is forbidden."""

    text: str
    language: str
    parts: tuple[Part, ...]
    typed: str

    @property
    def counts(self) -> Counter[str]:
        return Counter(part.status for part in self.parts)

    def lines(self) -> list[str]:
        """The report in words, without the parts that were left as they are."""
        found = [f"language: {self.language}"]
        for part in self.parts:
            if part.status in (READ, COMPOSED):
                found.append(f"{part.typed} -> {part.read}")
            elif part.status == AMBIGUOUS:
                others = " or ".join(to_words(name) for name in part.choice[1:])
                found.append(f"{part.typed} -> {part.read}; it may also mean {others}")
            elif part.status == UNKNOWN:
                found.append(f"{part.typed}: not known, kept as it is")
        if left := self.counts[SENTENCE]:
            found.append(f"parts of sentences, left alone: {left}")
        if taken := self.counts[BLOCKED]:
            found.append(f"forbidden parts, taken out: {taken}")
        return found

    def to_json(self) -> dict[str, Any]:
        parts = [{"typed": p.typed, "read": p.read, "status": p.status, "choice": list(p.choice)} for p in self.parts]
        return {"text": self.text, "language": self.language, "parts": parts, "counts": dict(self.counts)}


def normalise(
    prompt: str,
    dictionary: Dictionary,
    *,
    language: str = "auto",
    write: Callable[[str], str] = to_words,
    emphasis: bool = True,
    blocklist: Blocklist | None = None,
) -> Reading:
    r"""Read a prompt.

    Args:
        language: its code; `auto` takes the one that most of its words are of.
        write: a canonical name as it is written in a prompt.
        emphasis: whether `(smile:1.3)` is a weight and `\(` a parenthesis, as in ComfyUI; both
            are kept. Otherwise every sign is itself.
        blocklist: words that take a sentence out; default: the project's.

    Raises:
        ConfigError: `language` is neither `auto` nor a code.
    """
    code = language if language == "auto" else language_code(language)
    if code is None:
        raise ConfigError(
            f"'{language}' is not the code of a language", where="language", do="give auto, en, ja, es, ..."
        )
    pieces = cut(prompt, _known(dictionary), emphasis=emphasis)
    texts = [_core(piece.text) for piece in pieces if not piece.is_mark]
    spoken = code if code != "auto" else detect(texts, dictionary)
    said = (lambda name: escape(write(name))) if emphasis else write
    reader = _Reader(dictionary, spoken, said, blocklist or Blocklist.default())
    if code == "auto":
        alone, english = _alone(texts, dictionary, spoken)
        reader.open, reader.sure, reader.foreign_first = True, alone > 0, alone >= english
    parts = reader.parts([piece.text for piece in pieces if not piece.is_mark])
    read = _text(pieces, [part.read for part in parts], parts)
    typed = _text(pieces, [part.typed for part in parts], parts, separators=False)
    return Reading(read, spoken, tuple(parts), typed)


def detect(texts: Iterable[str], dictionary: Dictionary) -> str:
    """The language, other than English, that most words are of: told by their script, else by where they are known; `en` for none.

    English words say nothing, for tags are English in prompts of every language.
    """
    votes: Counter[str] = Counter()
    for text in texts:
        by_script, known = languages_of(text), {base(each) for each in dictionary.languages(text)} - {"und"}
        if len(by_script) == 1:
            votes[base(by_script[0])] += 1
        elif known and "en" not in known:
            votes.update(dict.fromkeys(known, 1 / len(known)))
        elif by_script:
            votes.update(dict.fromkeys(map(base, by_script), 0.1))
    return min(votes, key=lambda each: (-votes[each], each)) if votes else "en"


class _Reader:
    """Reads parts in one language. `open`: nobody said which it is, so a word that is English too is told; and unless it is `sure`,
    as some words are of no other language, so is a word that another language has."""

    def __init__(
        self, dictionary: Dictionary, language: str, write: Callable[[str], str], blocklist: Blocklist
    ) -> None:
        self.dictionary, self.language, self.write, self.blocklist = dictionary, language, write, blocklist
        self.open = self.sure = self.foreign_first = False

    def parts(self, texts: Sequence[str]) -> list[Part]:
        found = [self.part(text) for text in texts]
        start = 0
        while start < len(found):  # from a long part that means nothing to the end of its sentence
            if found[start].status != UNKNOWN or not _is_long(texts[start]):
                start += 1
                continue
            ends = [i for i in range(start, len(texts)) if texts[i].endswith(SENTENCE_END)]
            stop = (ends[0] if ends else start) + 1
            for i in range(start, stop):
                bad = found[i].status == BLOCKED or self.blocklist.blocks_text(texts[i])
                found[i] = Part("", "", BLOCKED) if bad else Part(texts[i], texts[i], SENTENCE)
            start = stop
        return found

    def part(self, text: str) -> Part:
        core = _core(text)
        sign = "@" if text.startswith("@") and core != text else ""
        if self.dictionary.is_blocked(core):
            return Part("", "", BLOCKED)
        choice, is_open = self.choice(core)
        if not choice:
            return self.composed(text, core)
        read = sign + self.write(choice[0].name)
        if is_open:
            return Part(text, read, AMBIGUOUS, tuple(match.name for match in choice))
        return Part(text, read, KEPT if read == text else READ, (choice[0].name,))

    def choice(self, core: str) -> tuple[list[Match], bool]:
        """Tags that a part may mean, the one to take first; and whether that is more than the language settles."""
        own = [
            base(language) in each and (len(each) == 1 or languages_of(text) == (language,))
            for text, each in zip(texts, known, strict=True)
        ]

    return sum(own), sum(each == {"en"} for each in known)


def _is_long(text: str) -> bool:
    return len(text) >= LONG_SIGNS if without_spaces(text) else len(text.split()) >= LONG_WORDS
