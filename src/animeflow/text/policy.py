"""How captions are drawn: the options and the presets. Knows names and numbers; renders nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from typing import Any

from ..core.errors import ConfigError, did_you_mean
from .concept import Concept
from .field import Field
from .lexicon import Wordbook
from .quality import SCORES, SMALLEST, WORDS, Bounds
from .script import known_language

KINDS = ("tags", "sentence", "tags+sentence", "sentence+tags")
ORDER = ("quality", "meta", "year", "rating", "count", "character", "series", "artist", "general")
SECTIONS = (*ORDER, "period")
QUALITIES = ("none", "keep", "score")
IMPLIED = ("keep", "drop", "add")
WHERE = "text"
# Options of later years, which are named in manifests and addresses only where they do something, so that older ones stay true.
LATER = ("official_style", "implied", "alias", "translate", "mixed", "tag_dropout_of", "extra", "fit")
SCORING = ("quality_words", "quality_scores", "quality_smallest")

# About the post, not about the picture.
ABOUT_THE_POST = (
    *("*commentary*", "*_request", "check_*", "tagme", "bad_*_id", "bad_id", "bad_link", "non-web_source"),
    *("md5_mismatch", "resolution_mismatch", "source_mismatch", "*_sample", "duplicate", "revision", "annotated"),
    *("translated", "hard-translated", "partially_translated", "paid_reward*", "variant_set", "alpha_transparency"),
)


@dataclass(frozen=True, kw_only=True)
class CaptionPolicy:
    """Options of a caption; `render` draws from them.

    Args:
        kinds: weight of each kind: tags, sentence, tags+sentence, sentence+tags.
        languages: weight of each language of sentences; one that is missing for a picture falls back to `en`.
        order: the sections, in order. `a+b` makes one pool of two, which is shuffled as one. A section left out is not written.
        shuffle: probability that the tags of every pool are shuffled.
        fixed: sections whose tags keep their stored order even then.
        keep_first: this many tags at the front are neither moved nor dropped.
        tag_dropout: probability that a tag is left out.
        section_dropout: the same for single sections, instead of `tag_dropout`.
        protected: sections whose tags are never dropped.
        tag_dropout_of: tag pattern -> the probability for the tags it fits, in place of their section's; of several that fit, the
            longest counts. Sections that are protected stay so.
        quality: `none` writes no quality tag at all (masterpiece, score_7, ...), `keep` writes those the facts have, `score`
            those that follow from the post's score, see `quality`.
        quality_words, quality_scores: label -> the share of its group that a post leaves behind; 1 takes a label out.
        quality_smallest: posts that a group needs, see `quality`.
        size_tags: write highres, absurdres, lowres from the size of the source picture.
        periods: word -> the first year it stands for; of those that began, the latest is the `period` of a picture. Where there
            are none, or no date, no period is written.
        solo: the section of the tag `solo`, count or general.
        rating_words: how each rating is written; an empty word or a missing rating is not written.
        artist_prefix: written before an artist's name, `@` for Anima.
        underscores: keep them in tags.
        separator: between tags.
        official_style: probability that the artists of official art (tag `official_art`) are left out: the style of a character
            whose artist nobody names is then the official one.
        leave_out: tag patterns (`*` for anything) that are never written.
        concepts: source of a picture -> the concept that it shows.
        implied: tags that others of a picture imply: `keep` them, `drop` them (or a number: each with this probability), or `add`
            those that are missing. Protected tags are never dropped.
        alias: probability that an English tag is written by another of its names.
        translate: probability that a tag is written in the language of its caption, where that is not English. Artists, quality,
            year and rating are never translated.
        mixed: probability that every tag of a caption draws a language of its own from `languages`.
        extra: section -> a fact that is written there; it has to be named in `order`.
        fit: text encoders into which a caption has to fit: general tags are left out from the end until it does.
        wordbook: what knows translations, aliases and implications.
        bounds: what knows which score is worth which label.
    """

    kinds: Mapping[str, float] = field(default_factory=lambda: {"tags": 1.0})
    languages: Mapping[str, float] = field(default_factory=lambda: {"en": 1.0})
    order: tuple[str, ...] = ORDER
    shuffle: float = 1.0
    fixed: tuple[str, ...] = ()
    keep_first: int = 0
    tag_dropout: float = 0.0
    section_dropout: Mapping[str, float] = field(default_factory=dict)
    protected: tuple[str, ...] = ("count", "character", "artist")
    quality: str = "none"
    size_tags: bool = True
    periods: Mapping[str, int] = field(default_factory=dict)
    solo: str = "count"
    rating_words: Mapping[str, str] = field(
        default_factory=lambda: {word: word for word in ("general", "sensitive", "questionable", "explicit")}
    )
    artist_prefix: str = ""
    underscores: bool = False
    separator: str = ", "
    official_style: float = 0.0
    leave_out: tuple[str, ...] = ABOUT_THE_POST
    concepts: Mapping[str, Concept] = field(default_factory=dict)
    implied: str | float = "keep"
    alias: float = 0.0
    translate: float = 0.0
    mixed: float = 0.0
    tag_dropout_of: Mapping[str, float] = field(default_factory=dict)
    quality_words: Mapping[str, float] = field(default_factory=lambda: dict(WORDS))
    quality_scores: Mapping[str, float] = field(default_factory=lambda: dict(SCORES))
    quality_smallest: int = SMALLEST
    extra: Mapping[str, Field] = field(default_factory=dict)
    fit: tuple[str, ...] = ()
    wordbook: Wordbook | None = None
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        known = (*SECTIONS, *self.extra)
        _known(self.kinds, KINDS, "kinds")
        for option in ("sections", "section_dropout", "protected", "fixed"):
            _known(getattr(self, option), known, "order" if option == "sections" else option)
        for name in self.extra:
            if name in SECTIONS or "+" in name or name not in self.sections:
                raise ConfigError(
                    f"'{name}' is a section of its own or in no order",
                    where=f"{WHERE}.extra",
                    do="give it another name than those of the sections, and write it into text.order",
                )
        _known([self.solo], ("count", "general"), "solo")
        _known([self.quality], QUALITIES, "quality")
        if self.quality == "score" and "quality" not in self.sections:
            raise ConfigError(
                "labels of quality stand in no section", where=f"{WHERE}.order", do="write quality into it"
            )
        if len(set(self.sections)) < len(self.sections):
            raise ConfigError(f"a section is named twice in {list(self.order)}", where=f"{WHERE}.order")
        for name, weights in (("kinds", self.kinds), ("languages", self.languages)):
            _numbers(weights, name)
            if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
                raise ConfigError(f"{name}={dict(weights)} has no positive weight", where=f"{WHERE}.{name}")
        for code in self.languages:
            _language(code)
        chances = {"shuffle": self.shuffle, "tag_dropout": self.tag_dropout, "official_style": self.official_style}
        chances |= {"alias": self.alias, "translate": self.translate, "mixed": self.mixed}
        for option in ("section_dropout", "tag_dropout_of", "quality_words", "quality_scores", "periods"):
            _numbers(getattr(self, option), option)
        chances |= {**self.section_dropout, **self.tag_dropout_of, **self.quality_words, **self.quality_scores}
        if isinstance(self.implied, str):
            _known([self.implied], IMPLIED, "implied")
        else:
            chances["implied"] = self.implied
        for name, chance in chances.items():
            if not 0 <= chance <= 1:
                raise ConfigError(
                    f"{name}={chance} is not a probability", where=WHERE, do="choose a number from 0 to 1"
                )
        if self.asks_words and self.wordbook is None:
            raise ConfigError(
                "translations, aliases and implications need a database of tags",
                where=f"{WHERE}.database",
                do="give the file that 'animeflow tags build' made, or leave text.translate, alias, mixed and implied as they were",
            )

    @classmethod
    def nekofantasia(cls) -> CaptionPolicy:
        """Nekofantasia 0.1: Danbooru tags without underscores, all shuffled, separated by commas, no quality tags."""
        return cls(order=("meta+rating+count+character+series+artist+general",))

    @classmethod
    def anima(cls) -> CaptionPolicy:
        """Anima's template: [quality, year, safety] [count] [character] [series] [@artist] [tags], tags mixed with sentences.

        Inside the first section the order is that of the card's full example. The card names the periods without their years;
        these are Animagine XL 3.1's, whose words they are but for `old`.
        """
        return cls(
            kinds={"tags": 0.45, "sentence": 0.25, "tags+sentence": 0.2, "sentence+tags": 0.1},
            order=("year", "period", "quality", "meta", "rating", "count", "character", "series", "artist", "general"),
            fixed=("quality", "meta", "count"),
            tag_dropout=0.05,
            quality="keep",
            periods={"old": 0, "early": 2011, "mid": 2015, "recent": 2018, "newest": 2021},
            solo="general",
            rating_words={"general": "safe", "sensitive": "sensitive", "questionable": "nsfw", "explicit": "explicit"},
            artist_prefix="@",
        )

    @classmethod
    def toonworld(cls) -> CaptionPolicy:
        """Drawn pictures: tags and sentences about what is in them; nothing about size, year or rating, which do not vary there."""
        return cls(
            kinds={"tags": 0.6, "sentence": 0.2, "tags+sentence": 0.1, "sentence+tags": 0.1},
            languages={"en": 0.8, "ja": 0.1, "es": 0.1},
            order=("count", "character", "series", "artist", "general"),
            size_tags=False,
        )

    @property
    def groups(self) -> list[list[str]]:
        """Sections of every pool."""
        return [entry.split("+") for entry in self.order]

    @property
    def sections(self) -> list[str]:
        return [section for group in self.groups for section in group]

    @property
    def asks_words(self) -> bool:
        """Whether anything is asked of a wordbook."""
        return bool(self.alias or self.translate or self.mixed or self.implied not in ("keep", 0))

    @property
    def drops_implied(self) -> float:
        """The probability that an implied tag is dropped."""
        return float(self.implied) if not isinstance(self.implied, str) else float(self.implied == "drop")

    def dropout_of(self, section: str, name: str) -> float:
        """The probability that a tag is left out."""
        if section in self.protected:
            return 0.0
        if self.tag_dropout_of:
            fitting = [pattern for pattern in self.tag_dropout_of if _pattern((pattern,)).fullmatch(name)]
            if fitting:
                return self.tag_dropout_of[max(fitting, key=lambda pattern: (len(pattern), pattern))]
        return self.section_dropout.get(section, self.tag_dropout)

    def period_of(self, year: int) -> str | None:
        """The word for a year: of the periods that had begun, the one that began last."""
        begun = {word: first for word, first in self.periods.items() if first <= year}
        return max(begun, key=lambda word: begun[word]) if begun else None

    def leaves_out(self, name: str) -> bool:
        return bool(self.leave_out) and _pattern(self.leave_out).fullmatch(name) is not None

    def concept_of(self, facts: Mapping[str, Any]) -> Concept | None:
        """The concept of a picture: the one that its source is called."""
        return self.concepts.get(str(facts.get("source")))

    def facts(self) -> dict[str, Any]:
        """JSON of all options, for manifests and content addresses. Those that came later are left out where they do nothing."""
        silent = {"concepts", "wordbook", "bounds", *(() if self.quality == "score" else SCORING)}
        silent |= {name for name in LATER if getattr(self, name) in (0, (), {}, "keep")}
        options = {
            f.name: dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
            for f in dataclasses.fields(self)
            if f.name not in silent
            for value in [getattr(self, f.name)]
        }
        if self.extra:
            options["extra"] = {name: each.facts() for name, each in self.extra.items()}
        if self.asks_words and self.wordbook is not None:
            options["database"] = self.wordbook.identity
        if self.quality == "score":
            options["bounds"] = self.bounds.identity if self.bounds else None
        concepts = {name: concept.facts() for name, concept in sorted(self.concepts.items())}
        return {**options, "concepts": concepts} if concepts else options


@lru_cache(maxsize=256)
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)))


def _known(names: Any, known: tuple[str, ...], option: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"unknown name '{name}'{did_you_mean(str(name), known)}",
                where=f"{WHERE}.{option}",
                do=f"known here: {', '.join(known)}",
            )


def _language(code: str) -> None:
    """Sentences and words are found by their code, so another spelling of one would never find any."""
    where = f"{WHERE}.languages"
    if (own := known_language(code, where=where)) != code:
        raise ConfigError(f"'{code}' is written '{own}' here", where=where, do=f"write {own}")


def _numbers(values: Mapping[str, Any], option: str) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{value!r} is no number", where=f"{WHERE}.{option}.{name}")
