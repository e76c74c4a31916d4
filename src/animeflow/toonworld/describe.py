"""A scene in words: Danbooru-style tags, sentences in four languages, prompts, and the list of all words. Knows no pixels."""

from __future__ import annotations

import re
from functools import lru_cache

from animeflow.core.errors import ConfigError
from animeflow.toonworld.languages import LANGUAGES, Language
from animeflow.toonworld.words import ATTRIBUTES, CAST, FIGURE_ATTRIBUTES, SERIES
from animeflow.toonworld.world import Figure, Scene

SILENT = ("none", "original")  # values that have no tag
_PIECE = re.compile(r"[a-z0-9áéíóúñü]+|[\u3040-\u30ff\u3400-\u9fff]|[^\s\w]|_")


def tags(scene: Scene) -> dict[str, list[str]]:
    """Category -> tags: the values of the scene's attributes and nothing else, but `solo` and `multiple_girls`."""
    general = [scene.count, "solo" if len(scene.figures) == 1 else "multiple_girls"]
    for figure in scene.figures:
        general += [getattr(figure, name) for name in FIGURE_ATTRIBUTES]
    general += [scene.background, scene.lighting]
    members = [figure.identity for figure in scene.figures if figure.identity is not None]
    return {
        "general": [tag for tag in dict.fromkeys(general) if tag not in SILENT],
        "character": list(dict.fromkeys(member.name for member in members)),
        "copyright": list(dict.fromkeys(member.series for member in members)),
        "artist": [scene.artist],
        "meta": [],
    }


def sidecar(scene: Scene, *, name: bool = False) -> str:
    """Tags as a tagger writes them beside a picture: what is seen and who drew it, on one line. A tagger does not know who is
    seen; with `name` it is told."""
    found = tags(scene)
    who = found["character"] if name else []
    words = [*found["general"][:2], *who, *(f"artist:{artist}" for artist in found["artist"]), *found["general"][2:]]
    return ", ".join(word.replace("_", " ") for word in words)


def captions(scene: Scene) -> dict[str, str]:
    """Language -> sentences that say every attribute, figure by figure from the left."""
    return {name: _sentence(scene, language) for name, language in LANGUAGES.items()}


def prompt(scene: Scene, style: str = "tags", *, language: str = "en") -> str:
    """What a user would type for this scene: `tags` (spaces for underscores, comma-separated) or a `sentence`."""
    if style == "sentence":
        if language not in LANGUAGES:
            raise ConfigError(f"no captions in '{language}'", do=f"choose one of: {', '.join(LANGUAGES)}")
        return _sentence(scene, LANGUAGES[language])
    if style != "tags":
        raise ConfigError(f"unknown prompt style '{style}'", do="choose tags or sentence")
    found = tags(scene)
    # The scene before the figures: a text encoder cuts long prompts at their end, where one figure more is the least loss.
    whole = [scene.background, scene.lighting]
    figures = [tag for tag in found["general"][2:] if tag not in whole]
    order = [*found["general"][:2], *found["character"], *found["copyright"], *found["artist"], *whole, *figures]
    return ", ".join(tag.replace("_", " ") for tag in order)


def identity(scene: Scene) -> dict[str, list[str]]:
    """Who is in the picture and who drew it: per figure its character and series (`original` without), and the artist."""
    members = [figure.identity for figure in scene.figures]
    return {
        "character": [figure.character for figure in scene.figures],
        "series": [member.series if member else "original" for member in members],
        "artist": [scene.artist],
    }


def title(name: str) -> str:
    """`akari_hoshino` -> `Akari Hoshino`."""
    return name.replace("_", " ").title()


def _figure(figure: Figure, language: Language) -> str:
    say, member = language.phrases, figure.identity
    who = language.girl if member is None else language.named
    if member is not None:
        who = who.format(character=title(member.name), series=title(member.series))
    worn = language.worn.format(accessory=say[figure.accessory]) if figure.accessory != "none" else ""
    return language.figure.format(
        who=who,
        hair=say[figure.hair_style].format(color=say[figure.hair_color]),
        eyes=say[figure.eye_color],
        expression=say[figure.expression],
        outfit=say[figure.outfit],
        accessory=worn,
        pose=say[figure.pose],
    )


def _sentence(scene: Scene, language: Language) -> str:
    said, count = [_figure(figure, language) for figure in scene.figures], len(scene.figures)
    if count > 1:
        said = [pattern.format(figure=one) for pattern, one in zip(language.places[count - 2], said, strict=True)]
    opened = language.opening[count - 1].format(figures=language.join.join(said))
    say = language.phrases
    text = language.scene.format(
        figures=opened,
        background=say[scene.background],
        lighting=say[scene.lighting],
        artist=say[scene.artist],
    )
    return text[0].upper() + text[1:]


def split(text: str) -> list[str]:
    """Lower-case pieces: words of letters or digits, single Chinese or Japanese characters, single signs."""
    return _PIECE.findall(text.lower())


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """Every piece that `split` finds in any tag, caption or prompt, sorted. A tokenizer with these needs no other word."""
    texts = [*CAST, *SERIES, "solo", "multiple_girls", ","]
    texts += [value for values in ATTRIBUTES.values() for value in values]
    for language in LANGUAGES.values():
        texts += [*language.phrases.values(), *language.opening, language.join, language.figure, language.worn]
        texts += [language.girl, language.named, language.scene, *(p for places in language.places for p in places)]
    texts += [text.replace("_", " ") for text in texts]
    plain = (re.sub(r"\{\w+\}", " ", text) for text in texts)
    return tuple(sorted({piece for text in plain for piece in split(text)}))
