"""Which model a LoRA is added to, and the experiment that knows how. Knows config words and headers; loads no weights.

Experiments are found by name: those that end in `_lora` are tried one after another, and the one whose model takes the base is the
one; so neither a family nor a size of it is named here. Those that end in `_tiny_lora` are for small bases on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ...core.errors import AnimeflowError, ConfigError, did_you_mean
from ...model import registry
from ..compose import choices, compose, config_folder

LORA, TINY = "_lora", "_tiny_lora"
SMALL = 200_000_000  # parameters of a backbone that a CPU can train
PARTS = ("weights", "codec", "text", "tokenizers")


@dataclass(frozen=True)
class Base:
    """A model to add to.

    Attributes:
        family: its name.
        preset: the experiment.
        options: settings of `model` that read what lies at `path`.
        found: it was not named: the preset's own path is there.
    """

    family: str
    preset: str
    path: Path
    options: Mapping[str, Any]
    found: bool = False


def find_base(*, base: str | None, family: str | None, tiny: bool, preset: str | None) -> Base:
    """The base that these options mean.

    Raises:
        ConfigError: there is none, no family takes it, or the options contradict each other.
    """
    if family is not None and family not in registry.names():
        known = registry.names()
        raise ConfigError(
            f"unknown family '{family}'{did_you_mean(family, known)}",
            where="--family",
            do=f"choose one of: {', '.join(known)}",
        )
    tried = _presets(family, tiny=tiny, named=preset)
    if base is None and tiny:
        return _along(tried[0])
    if base is None:
        return _lying_there(tried, family)
    path = Path(base)
    if not path.exists():
        raise ConfigError(f"there is no {path}", where="--base", do="give a diffusers folder, or a .safetensors file")
    return _taking(path, tried, family=family, tiny=tiny, named=preset)


def presets(suffix: str = LORA) -> list[str]:
    """Experiments for a LoRA by their names: the large ones, or with `TINY` the small ones."""
    found = [name for name in choices(config_folder(), "experiment") if name.endswith(suffix)]
    return [name for name in found if suffix == TINY or not name.endswith(TINY)]


@cache
def composed(preset: str) -> dict[str, Any]:
    return compose([f"experiment={preset}"])


def _presets(family: str | None, *, tiny: bool, named: str | None) -> list[str]:
    """What is tried, in order: the family that the config begins with comes first."""
    if named is not None:
        known = choices(config_folder(), "experiment")
        if named not in known:
            raise ConfigError(
                f"unknown preset '{named}'{did_you_mean(named, known)}",
                where="--preset",
                do=f"choose one of: {', '.join(name for name in known if 'lora' in name)}",
            )
        if composed(named).get("learn", {}).get("kind") != "lora":
            raise ConfigError(f"{named} trains no LoRA", where="--preset", do=f"for example: {', '.join(presets())}")
        candidates = [named]
    else:
        candidates = presets(TINY if tiny else LORA)
    first = compose([])["model"]["family"]
    candidates.sort(key=lambda name: composed(name)["model"]["family"] != first)
    found = [name for name in candidates if family in (None, composed(name)["model"]["family"])]
    if not found:
        raise ConfigError(
            f"no experiment trains a LoRA of {family}" + (f": --preset {named} is of another family" if named else ""),
            where="--family",
            do=f"there are: {', '.join(presets() + presets(TINY))}",
        )
    return found


def _along(preset: str) -> Base:
    """The small base that is part of the package."""
    from ..bases import tiny_base

    family = composed(preset)["model"]["family"]
    path = tiny_base(family)
    return Base(family, preset, path, registry.constructor(family).weights_at(path), found=True)


def _lying_there(tried: Sequence[str], family: str | None) -> Base:
    """Without a word about the base: that of the preset, where exactly one is on this machine."""
    wanted = {name: Path(str(composed(name)["model"].get("weights") or "")) for name in tried}
    there = [name for name, path in wanted.items() if path.name and path.exists()]
    if len({composed(name)["model"]["family"] for name in there}) == 1:
        name = there[0]
        make = registry.constructor(composed(name)["model"]["family"])
        return Base(composed(name)["model"]["family"], name, wanted[name], make.weights_at(wanted[name]), found=True)
    if there:
        listed = ", ".join(composed(name)["model"]["family"] for name in there)
        raise ConfigError(
            f"there is more than one base: {listed}", where="--base", do="say --family NAME or --base PATH"
        )
    places = "; ".join(f"{composed(name)['model']['family']}: {path}" for name, path in wanted.items() if path.name)
    raise ConfigError(
        "no base to train on" + (f" for {family}" if family else ""),
        where="--base",
        why="a LoRA is an addition to a model, and that model is not part of animeflow",
        do=f"put the model's diffusers folder at its place ({places}), or say where it is with --base PATH; "
        "--tiny rehearses with the small base that comes along",
    )


def _taking(path: Path, tried: Sequence[str], *, family: str | None, tiny: bool, named: str | None) -> Base:
    """The first of these whose model takes what lies at `path`, without its weights being read."""
    refusals: dict[str, str] = {}
    small = [] if tiny or named else _presets(family, tiny=True, named=None)
    for preset in (*tried, *small):
        node = dict(composed(preset)["model"])
        name = node.pop("family")
        make = registry.constructor(name)
        try:
            options = make.weights_at(path)
            made: Any = make(**{**{key: value for key, value in node.items() if key not in PARTS}, **options})
            size = sum(parameter.numel() for parameter in made.outline().parameters())
        except (AnimeflowError, OSError, ValueError, KeyError, SafetensorError) as error:  # whatever lies there
            refusals.setdefault(name, getattr(error, "what", None) or f"{type(error).__name__}: {error}")
            continue
        if preset.endswith(TINY) and size > SMALL:
            refusals.setdefault(name, f"{size:,} parameters are more than the small flavour trains")
            continue
        _require_parts(made, path)
        return Base(name, preset, path, options)
    raise _no_family(path, refusals, family)


def _require_parts(family: Any, path: Path) -> None:
    """Codec and text encoders are there. Raises ConfigError before an hour is spent on the pictures."""
    try:
        family.sizes()
    except (AnimeflowError, OSError, ValueError) as error:
        raise ConfigError(
            f"the base is {family.name}/{family.flavour}, and a part of it is missing: {getattr(error, 'what', error)}",
            where=f"--base {path}",
            why="pictures and captions are encoded with the base's own autoencoder and text encoders",
            do=getattr(error, "do", None)
            or "give a whole diffusers folder, or the parts as model.codec=... and model.text=...",
        ) from error


def _no_family(path: Path, refusals: Mapping[str, str], family: str | None) -> ConfigError:
    kind = looks(path)
    asked = f" for {family}" if family else ""
    return ConfigError(
        f"this base is not one that a LoRA can be trained on{asked}" + (f": it looks like {kind}" if kind else ""),
        where=f"--base {path}",
        why="; ".join(f"{name}: {what}" for name, what in refusals.items()),
        do="to go on from a LoRA give the model as --base and the LoRA as learn.start=FILE"
        if kind == "a LoRA"
        else f"give a model of one of these families: {', '.join(registry.names())}",
    )


def looks(path: Path) -> str | None:
    """What the tensors at `path` look like by their names; None where nothing tells."""
    from ...model.likeness import looks_like
    from ...model.tensor_file import open_tensors

    folders = [path / "transformer", path / "unet", path] if path.is_dir() else []
    files = next(
        (list(found) for f in folders if (found := sorted(f.glob("*.safetensors")))), [] if folders else [path]
    )
    names: list[str] = []
    for file in files:
        try:
            with open_tensors(file) as opened:
                names += list(opened.keys())
        except (AnimeflowError, OSError, ValueError):
            return None
    return looks_like(names)
