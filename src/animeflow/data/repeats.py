"""How often the pictures of a concept come in an epoch: from names to pictures. Knows names and numbers; knows no order of data."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import ConfigError, did_you_mean


def repeats_of(concepts: Mapping[int, str], repeats: Mapping[str, int]) -> dict[int, int]:
    """uid -> repeats, from uid -> concept and concept -> repeats.

    Raises:
        ConfigError: a number is not whole and positive, or no picture is of a concept that is named.
    """
    where, known = "data.loader.repeats", sorted({concept for concept in concepts.values() if concept})
    for name, number in repeats.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigError(
                f"{name}={number!r} is not a positive whole number",
                where=where,
                why="so every picture comes exactly as often as is said, in every epoch",
                do="for half as often as the others, give the others 2",
            )
        if name not in known:
            raise ConfigError(
                f"no picture to train on is of a concept '{name}'{did_you_mean(str(name), known)}",
                where=where,
                do=f"known here: {', '.join(known)}",
            )
    return {uid: repeats[concept] for uid, concept in concepts.items() if repeats.get(concept, 1) != 1}
