"""From a folder and what was asked to a run that is fully described. Knows the order of the questions; writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...text.blocklist import Blocklist
from ..compose import key_of
from ..tag_database import with_other_names
from ..wiring import Workspace
from .base import find_base
from .begun import next_name, require_same_settings
from .choose import Asked, Chosen, choose
from .curated import curated
from .found import Found
from .scan import LEAST, require_enough, scan
from .words import keys


def prepare(folder: Path, asked: Asked, *, on_found: Callable[[Found], None] | None = None) -> Chosen:
    """Everything that can be known and refused before anything is written. One picture is enough for who says what is held out.

    Raises:
        AnimeflowError: the folder, the base or a setting cannot be used.
    """
    _require_form(asked)
    found = scan(folder, masks="data.shard.masks=off" not in asked.words, blocklist=blocklist_of(asked.words))
    if on_found is not None:
        on_found(found)
    least = 1 if "catalogue.val_share" in keys(asked.words) else LEAST
    require_enough(found, least=least)
    base = find_base(base=asked.base, family=asked.family, tiny=asked.tiny, preset=asked.preset)
    chosen = choose(found, base, asked)
    if (kept := curated(chosen.found, chosen.config)) is not chosen.found:
        chosen = choose(kept, base, asked)
    require_enough(chosen.found, least=least)  # without those that are too small, or that the query leaves out
    require_start(chosen.config)
    require_same(chosen)
    require_same_settings(chosen.config)
    return chosen


def blocklist_of(words: Sequence[str]) -> Blocklist:
    """The blocklist of the catalogue to come: what it refuses is no picture of the run here either, or the run's own pictures would
    not be those of the folder when it goes on."""
    from omegaconf import OmegaConf

    said = [each.lstrip("+") for each in words if key_of(each) in ("catalogue.blocklist", "text.database")]
    node: Any = OmegaConf.to_container(OmegaConf.from_dotlist(said))
    names = node.get("catalogue", {}).get("blocklist")
    blocklist = Blocklist.default().with_tags(names if isinstance(names, list) else ())
    return with_other_names(blocklist, {"text": node.get("text", {})})


def _require_form(asked: Asked) -> None:
    for word in asked.words:
        if "=" not in word:
            raise ConfigError(
                f"'{word}' is not of the form KEY=VALUE",
                why="one folder is trained on at a time, and options come before or after it",
                do="for example: learn.rank=16; each sub-folder of a folder can be a concept of its own",
            )
    for option, value in (("--trigger", asked.trigger), ("--class", asked.kind)):
        if value is not None and not value.strip():
            raise ConfigError(f"{option} is empty", where=option, do="leave it out, or give a word")


def require_start(config: Mapping[str, Any]) -> None:
    """The LoRA to go on from is whole and of this family, before an hour is spent on the pictures."""
    start = config["learn"].get("start")
    if start is None:
        return
    from ...learn.files import read_lora

    path = Path(str(start))
    if not path.exists():
        raise ConfigError(
            f"there is no LoRA at {path}", where="learn.start", do="give a .safetensors file, or leave it out"
        )
    read_lora(path, family=config["model"]["family"])


def require_same(chosen: Chosen) -> None:
    """A run that is there was begun with the pictures that are in the folder now.

    Raises:
        ConfigError: it was not, and going on would be neither run.
    """
    place = Workspace.of(chosen.config)
    if not (place.catalogue / "catalogue.parquet").is_file():
        return
    from ...catalogue.table import Catalogue

    known = {post.uid for post in Catalogue(place.catalogue).posts()}
    now = {seen.uid for group in chosen.found.groups for seen in group.pictures}
    now |= known & chosen.small  # too small for a bucket, so catalogued and not cut
    gone, new = len(known - now), len(now - known)
    # Without a checkpoint new pictures are just taken in; a picture that is gone would stay in the set.
    if gone or (new and (place.run / "checkpoints").is_dir()):
        changed = ", ".join([*([f"{gone} are gone"] if gone else []), *([f"{new} are new"] if new else [])])
        name = chosen.config["name"]
        raise ConfigError(
            f"the pictures are not those that {name} was begun with: {changed}",
            where=str(place.set),
            why="going on would be neither run",
            do=f"give this one a name of its own: name={next_name(name, place.run)}; or delete {place.run} and {place.set}",
        )
