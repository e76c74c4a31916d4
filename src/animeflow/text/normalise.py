"""A prompt in any language as canonical tags, with a report of every part. Knows a dictionary of tags; knows no model.

Text encoders that never saw a script read it as unknown: a prompt of seven Japanese tags leaves T5 nothing. Here its words are
looked up instead. What is not found is kept and told, what means several tags is told with the choice, sentences are left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from .blocklist import Blocklist
from .database import Match
from .emphasis import escape, unescape
from .prompt_parts import SENTENCE_END, Piece, cut, plain_separator
from .reading import AMBIGUOUS, BLOCKED, COMPOSED, KEPT, READ, SENTENCE, UNKNOWN, Part, Reading
from .script import base, is_cjk, known_language, languages_of, speaks, without_spaces
from .tags import to_words

_SIGNS = "(),:"
LONG_WORDS, LONG_SIGNS = 4, 9  # an unknown part of this length is a piece of a sentence
PARTICLES = frozenset(("の", "と", "な", "が", "で", "に", "を", "は", "も", "的", "和", "着"))
LONGEST = 16  # signs of a word there
AT_MOST = 6  # words that are looked for in one part without spaces


_GONE = "\0"
_EMPTY = re.compile(r"\(\s*\0[\s,\0]*(?::[^()]*)?\)")  # emphasis of what is gone
_BEHIND = re.compile(r"\0[\s,]*")


class Dictionary(Protocol):
    """What a `TagDatabase` knows of words."""

    def resolve(self, surface: str, language: str | None = None) -> list[Match]: ...

    def languages(self, surface: str) -> frozenset[str]: ...

    def is_blocked(self, surface: str) -> bool: ...


def normalise(
    prompt: str,
    dictionary: Dictionary,
    *,
    language: str = "auto",
    write: Callable[[str], str] = to_words,
    emphasis: bool = True,
    blocklist: Blocklist | None = None,
    where: str = "language",
) -> Reading:
    r"""Read a prompt.

    Args:
        language: its code; `auto` takes the one that most of its words are of.
        write: a canonical name as it is written in a prompt.
        emphasis: whether `(smile:1.3)` is a weight and `\(` a parenthesis, as in ComfyUI; both
            are kept. Otherwise every sign is itself.
        blocklist: words that take a sentence out; default: the project's.
        where: what an error calls the setting of the language.

    Raises:
        ConfigError: `language` is neither `auto` nor a language's code.
    """
    code = known_language(language, where=where, others=("auto",))
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
        own = [m for m in self.dictionary.resolve(core, self.language) if speaks(m.language, self.language)]
        english = [m for m in self.dictionary.resolve(core, "en") if base(m.language) == "en"]
        if self.language == "en" or not own:
            found = english or self.dictionary.resolve(core)
            return found, len(found) > 1 and not _is_settled(found[0])
        if self.open and english and english[0].name not in {match.name for match in own}:
            first, second = (own, english) if self.foreign_first else (english, own)
            return [*first, *second], True
        if self.open and not self.sure:
            named = {match.name for match in own}
            own = [*own, *(match for match in self.dictionary.resolve(core) if match.name not in named)]
        return own, len(own) > 1 and not own[0].reviewed

    def composed(self, text: str, core: str) -> Part:
        """Several words without separators between: parted by spaces, or simply one behind the other."""
        words = core.split()
        if len(words) < 2 or not is_cjk(core) or not all(self.choice(word)[0] for word in words):
            words = self.cover(core) if without_spaces(core) else []
        if not words:
            return Part(text, text, UNKNOWN)
        if any(map(self.dictionary.is_blocked, words)):
            return Part("", "", BLOCKED)
        names = list(dict.fromkeys(self.choice(word)[0][0].name for word in words))
        return Part(text, ", ".join(map(self.write, names)), COMPOSED, tuple(names))

    def cover(self, core: str) -> list[str]:
        """The fewest known words, of two signs and more each, that make up the whole, particles between them aside."""
        best: list[list[str] | None] = [None] * (len(core) + 1)
        best[0] = []
        for stop in range(1, len(core) + 1):
            for start in range(max(0, stop - LONGEST), stop):
                before, word = best[start], core[start:stop]
                if before is None:
                    continue
                if word in PARTICLES and before and stop < len(core):
                    way = before
                elif len(word) > 1 and len(before) < AT_MOST and self.choice(word)[0]:
                    way = [*before, word]
                else:
                    continue
                kept = best[stop]
                if kept is None or len(way) < len(kept):
                    best[stop] = way
        found = best[len(core)]
        return found if found and len(found) > 1 else []


def _known(dictionary: Dictionary) -> Callable[[str], bool]:
    """Whether a piece is one word with all its signs. A forbidden word is found inside of others, too: signs around it are not its
    own."""

    def known(text: str) -> bool:
        forbidden = not any(sign in text for sign in _SIGNS) and dictionary.is_blocked(_core(text))
        return forbidden or bool(dictionary.resolve(_core(text)))

    return known


def _text(pieces: Sequence[Piece], words: Sequence[str], parts: Sequence[Part], *, separators: bool = True) -> str:
    """The prompt with `words` as its parts, and plain separators between. What was around a forbidden part goes with it."""
    rest, text, left_alone = iter(zip(words, parts, strict=True)), "", False
    for piece in pieces:
        if piece.is_mark:
            keep = left_alone or not separators or piece.text in "()"
            text += piece.text if keep else plain_separator(piece.text)
        else:
            word, part = next(rest)
            text, left_alone = text + (_GONE if part.status == BLOCKED else word), part.status == SENTENCE
    if _GONE not in text:
        return text
    while (less := _EMPTY.sub(_GONE, text)) != text:
        text = less
    return _BEHIND.sub("", text).rstrip(" ,\n")


def _core(text: str) -> str:
    r"""What is looked up: without the `@` of an artist and without escapes."""
    plain = unescape(text)
    return plain[1:] if len(plain) > 2 and plain[0] == "@" and plain[1].isalnum() else plain


def _is_settled(match: Match) -> bool:
    return match.kind == "canonical" or match.reviewed


def _alone(texts: Iterable[str], dictionary: Dictionary, language: str) -> tuple[int, int]:
    """How many words no other language has, and how many English alone has."""
    number = english = 0
    for text in texts:
        known = {base(each) for each in dictionary.languages(text)} - {"und"}
        number += base(language) in known and (len(known) == 1 or languages_of(text) == (language,))
        english += known == {"en"}
    return number, english


def _is_long(text: str) -> bool:
    return len(text) >= LONG_SIGNS if without_spaces(text) else len(text.split()) >= LONG_WORDS
