"""Print captions of some pictures as training will read them, a colour per section, and what many of them amount to."""

from __future__ import annotations

import heapq
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.errors import AnimeflowError, DataError
from ...core.seed import uniform
from ..compose import compose
from ..machine_tags import with_machine_tags
from ..wiring import Workspace, captions, family
from .tags_lint import TEXT_PARTS

COUNTED = 2000  # captions that the figures are of
VARIANTS = 4
SMALL = 50e6  # parameters of text encoders that are built only to count tokens

STYLES = {
    "quality": "bright_yellow",
    "meta": "cyan",
    "year": "bright_black",
    "period": "bright_black",
    "rating": "bright_red",
    "count": "bright_white",
    "character": "bright_green",
    "series": "magenta",
    "artist": "red",
    "general": "blue",
    "sentence": "white",
    "trigger": "bold bright_magenta",
}
OWN = "bright_cyan"  # of sections that a config names

Picture = tuple[int, Mapping[str, Any]]


def run(overrides: Sequence[str], *, count: int = 20, tokens: bool = False, tokenizer: str | None = None) -> None:
    config = compose(overrides)
    pictures, policy = _pictures(config, max(count, COUNTED // VARIANTS)), _policy(config)
    policy, note = _with_bounds(policy, pictures)
    tower, why = _tower(config, load=tokens, folder=tokenizer)
    drawn = _draw(pictures, policy, config["seed"], tower)
    _show(drawn[: count * VARIANTS : VARIANTS], policy)
    for line in [note, *_figures([caption for _, caption, _ in drawn], len(pictures)), *_lengths(drawn, tower, why)]:
        if line:
            print(line)


def _policy(config: Mapping[str, Any]) -> Any:
    """With the bounds of scores that the cache will have, where there are shards."""
    from ...data.manifest import MANIFEST
    from ...data.reader import ShardSet

    shards = Workspace.of(config).shards
    return captions(config, ShardSet(shards) if (shards / MANIFEST).is_file() else None)


def _pictures(config: Mapping[str, Any], wanted: int) -> list[Picture]:
    """Some of the catalogue, else of the shards: the same for the same seed, and in no order that says anything."""
    from ...catalogue.table import Catalogue
    from ...data.manifest import MANIFEST
    from ...data.reader import ShardSet

    place, seed = Workspace.of(config), config["seed"]

    def chance(uid: int) -> float:
        return uniform(seed, uid, "preview")

    if len(catalogue := Catalogue(place.catalogue)):
        part = max(1, len(catalogue) // (4 * wanted))  # a uid is a hash, so every so manieth is a fair share
        posts = catalogue.iterate(f"uid % {part} = {seed % part}" if part > 1 else None)
        found = with_machine_tags(config, heapq.nsmallest(wanted, posts, key=lambda post: chance(post.uid)))
        return [(post.uid, post.as_dict()) for post in found]
    if (place.shards / MANIFEST).is_file():
        shards = ShardSet(place.shards)
        return [(uid, shards.facts(uid)) for uid in heapq.nsmallest(wanted, shards.uids, key=chance)]
    raise DataError(
        "there are no pictures yet",
        where=str(place.set),
        do="run 'animeflow catalogue' first, or give set=... of another",
    )


def _with_bounds(policy: Any, pictures: Sequence[Picture]) -> tuple[Any, str]:
    if policy.quality != "score" or policy.bounds is not None:
        return policy, ""
    from ...text.quality import Bounds

    ladders = (policy.quality_words, policy.quality_scores)
    bounds = Bounds.measure((facts for _, facts in pictures), ladders=ladders, smallest=policy.quality_smallest)
    note = f"labels of quality are by rank among these {len(pictures):,} pictures; the cache ranks all"
    return replace(policy, bounds=bounds), note


def _tower(config: Mapping[str, Any], *, load: bool, folder: str | None) -> tuple[Any, str]:
    """What counts tokens and whose tokenizers these are, or nothing and why. Tokenizers in `folder`, else where the model's lie,
    are enough: no large encoder is loaded."""
    from ...model.token_count import Counting, Tokenizers

    lying = Tokenizers(folder) if folder else _lying(config)
    try:
        model = dict(config["model"])
        if model.get("codec") and not Path(model["codec"]).exists():
            model["codec"] = None  # a set that waits for its codec has captions already
        if lying is not None and not load:  # a small model has the same encoders' names and lengths
            model |= {"flavour": "tiny", "weights": None, "codec": None, "text": None}
        fam = family({**config, "model": model})
        size = sum(part.parameters for part in fam.sizes() if not part.trainable and part.name != "codec")
        if size > SMALL and not load:
            return None, (
                f"not counted: {size / 1e9:.1f} B parameters of text encoders would be loaded; --tokens does, and so does "
                "--tokenizer FOLDER with their tokenizers alone"
            )
        tower = fam.text_tower()
    except AnimeflowError as error:
        return None, f"not counted: {error.what}"
    if lying is None:
        stand_in = "the model's small stand-in for a tokenizer, made of the drawn world's words"
        return tower, f"{stand_in}: a released model counts otherwise, and --tokenizer FOLDER counts as it does"
    counting = Counting(tower, lying)
    left = (
        f"; {', '.join(counting.missing)} by a small stand-in, for there is none of its kind"
        if counting.missing
        else ""
    )
    return counting, f"the tokenizers in {lying.folder}{left}"


def _lying(config: Mapping[str, Any]) -> Any:
    """The tokenizers of a folder that the model's settings name, if there are any."""
    from ...model.token_count import Tokenizers, kinds_in

    named = [config["model"].get(part) for part in TEXT_PARTS]
    found = next((str(name) for name in named if name and Path(str(name)).is_dir() and kinds_in(str(name))), None)
    return Tokenizers(found) if found else None


def _draw(pictures: Sequence[Picture], policy: Any, seed: int, tower: Any) -> list[tuple[int, Any, list[Any]]]:
    """(uid, caption, its pieces): the variants that a cache of this config holds, those of a picture together."""
    from ...text.caption import keyed, pieces

    fits = None
    if tower is not None and policy.fit:
        from ...data.texts import fitting

        fits = fitting(tower, policy.fit)
    return [
        (uid, *pieces(facts, policy, keyed(seed, uid, number), fits=fits))
        for uid, facts in pictures
        for number in range(VARIANTS)
    ]


def _show(drawn: Sequence[tuple[int, Any, list[Any]]], policy: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    # rich leaves colour out where NO_COLOR says so; without a terminal lines are never cut or wrapped.
    console = Console(soft_wrap=not sys.stdout.isatty(), highlight=False)
    sections = ["trigger", *policy.sections, "sentence"]
    legend = Text("sections: ")
    for section in sections:
        legend.append(section, style=STYLES.get(section, OWN)).append(" ")
    console.print(legend)
    for uid, caption, parts in drawn:
        more = f", {caption.shortened} tags left out" if caption.shortened else ""
        console.print(Text(f"\n{uid:016x}  {caption.kind}, {caption.language}{more}", style="dim"))
        line = Text()
        for section, text in parts:
            line.append(text, style=STYLES.get(section, OWN) if section else "")
        console.print(line if parts else Text("(nothing is known of it)", style="dim"))
    console.print()


def _figures(drawn: Sequence[Any], pictures: int) -> Iterator[str]:
    from ...text.caption import count

    told = count(drawn)
    yield f"{len(drawn):,} captions of {pictures:,} pictures, {len({caption.text for caption in drawn}):,} of them different"
    for name in ("kinds", "languages"):
        if told[name]:
            yield f"  {name}: {_shares(told[name], len(drawn))}"
    others = +told["missing_languages"]
    if bare := others.pop("en", 0):
        yield f"  a sentence was drawn and the picture has none, so tags alone: {bare / len(drawn):.1%}"
    if others:
        yield f"  drawn in a language that the picture has no words in, so in English: {_shares(others, len(drawn))}"
    if "tags" in told:
        yield "  tags: " + ", ".join(f"{number:,} {word}" for word, number in told["tags"].items())
    if "missing_translations" in told:
        words = ", ".join(f"{number:,} {language}" for language, number in told["missing_translations"].most_common())
        yield f"  tags without a translation: {words}"


def _shares(counts: Counter[str], total: int) -> str:
    return ", ".join(f"{name} {number / total:.1%}" for name, number in counts.most_common())


def _lengths(drawn: Sequence[tuple[int, Any, list[Any]]], tower: Any, why: str) -> Iterator[str]:
    if tower is None:
        yield f"  tokens: {why}"
        return
    yield f"  tokens are counted by {why}"
    tokens: dict[str, list[tuple[int, int]]] = {}
    for _, caption, _ in drawn:
        for name, pair in tower.num_tokens(caption.text).items():
            tokens.setdefault(name, []).append(pair)
    for name, pairs in tokens.items():
        cut = sum(all_ > kept for all_, kept in pairs)
        lengths = [all_ for all_, _ in pairs]
        yield (
            f"  tokens of {name}: {statistics.median(lengths):.0f} in the middle, {max(lengths)} at most; "
            f"{cut / len(pairs):.1%} of the captions lose their end"
        )
