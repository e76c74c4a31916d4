"""The database of tags that a config names, and prompts read with it. Knows config and the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigError
from ..text.script import known_language

if TYPE_CHECKING:
    from ..text.blocklist import Blocklist
    from ..text.database import TagDatabase
    from ..text.normalise import Reading


def tag_database(config: Mapping[str, Any], *, wanted_by: str) -> TagDatabase:
    """The database of `text.database`. Raises ConfigError where none is named, DataError where the file is none."""
    from ..text.database import TagDatabase

    file = config["text"].get("database")
    if not file:
        raise ConfigError(
            "this needs a database of tags",
            where=wanted_by,
            do="give text.database=FILE, made by: animeflow tags build FILES... --out FILE",
        )
    return TagDatabase.open(file)


def read_prompts(config: Mapping[str, Any], prompts: Sequence[str]) -> list[Reading] | None:
    """Prompts as `sample.language` has them read; None where they are English and stay as they are."""
    node = config["sample"]
    language = known_language(
        "en" if node.get("language") is None else node["language"], where="sample.language", others=("auto",)
    )
    if language == "en":
        return None
    from ..text.normalise import normalise

    database = tag_database(config, wanted_by="sample.language")
    emphasis = node.get("prompts") is not None and bool(node.get("prompt_weights"))
    return [normalise(prompt, database, language=language, emphasis=emphasis) for prompt in prompts]


def with_other_names(blocklist: Blocklist, config: Mapping[str, Any]) -> Blocklist:
    """A blocklist that knows every alias and translation of its tags, where the config names a database of them."""
    if not config["text"].get("database"):
        return blocklist
    return blocklist.extended(tag_database(config, wanted_by="text.database").surfaces())


def blocklist_of(config: Mapping[str, Any]) -> Blocklist:
    """The project's blocklist, with the tags that the config adds and every other name of each."""
    from ..text.blocklist import Blocklist

    names = (config.get("catalogue") or {}).get("blocklist") or []
    if not isinstance(names, list):
        raise ConfigError(
            f"{names!r} is not a list of tags", where="catalogue.blocklist", do="write [one_tag,another_tag]"
        )
    return with_other_names(Blocklist.default().with_tags(names), config)
