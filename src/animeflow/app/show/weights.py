"""What a safetensors file is, by its header alone: a LoRA, an average, a model, a part of one. Knows names by likeness and asks the
families for the rest; loads no tensor but alphas."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import AnimeflowError
from ...model import registry
from ...model.likeness import LAST, looks_like
from . import page
from .header import Header, read_header
from .shown import Shown

AVERAGE = "animeflow.average"
PLACES = {  # words of `likeness` -> what it is for, and where it goes
    "an autoencoder": ("turns latents into pictures and back", "ComfyUI/models/vae"),
    "a CLIP text encoder": ("reads prompts", "ComfyUI/models/text_encoders"),
    "a T5 text encoder": ("reads prompts", "ComfyUI/models/text_encoders"),
}
TAESD = "taesd_"
OF_ONE = ("learning rate", "batch", "seed", "pictures", "steps", "epochs", "images seen", "optimizer", "schedule", "recipe", "data",
          "run", "tags")  # fmt: skip


def show_file(path: Path) -> Shown:
    """Raises DataError for a file that is broken or pickled."""
    header = read_header(path)
    if AVERAGE in header.metadata:
        return _average(header)
    if (path.parent / "MANIFEST.json").is_file() and (path.parent / "state.json").is_file():
        return _of_checkpoint(path, header)
    if path.with_suffix(".index.npz").is_file():
        return _of_cache(header)
    kind = looks_like(header.tensors)
    if kind == "a LoRA" or "lora_adapter_metadata" in header.metadata:
        from .lora import show_lora

        return show_lora(path, header)
    if kind in {sign for _, sign in registry.signs()}:
        return _model(path, header, kind)
    return _other(path, header, kind)


def summary(header: Header) -> dict[str, Any]:
    """What every file has."""
    dtypes = ", ".join(f"{dtype} ({page.count(n, 'tensor')})" for dtype, n in header.dtypes().items())
    return {
        "tensors": f"{len(header.tensors):,}",
        "numbers": f"{header.parameters:,}",
        "dtype": dtypes,
        "size": page.size(header.bytes),
    }


def provenance(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the header says of where it comes from, shortened for people."""
    from ...learn.explain import explain

    told = explain(metadata)
    if "merged" in told:  # of several: what one of them was trained with is not theirs
        told = {fact: value for fact, value in told.items() if fact not in OF_ONE}
    recipe = told.pop("recipe", None)
    if isinstance(recipe, dict):
        told["recipe"] = ", ".join(f"{key}: {page.words(_short(value))}" for key, value in recipe.items())
    return told


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if isinstance(item, str | int | float | bool)}
    return value


def parts(header: Header) -> dict[str, str]:
    """Tensors by the beginning of their names, largest first, and what each group looks like."""
    names: dict[str, list[str]] = {}
    for name in header.tensors:
        names.setdefault(_beginning(name), []).append(name)
    if len(names) > 8:
        return {}
    sizes = {group: sum(header.tensors[name].bytes for name in every) for group, every in names.items()}
    return {
        group: f"{page.count(len(names[group]), 'tensor')}, {page.size(sizes[group])}{_alike(group, names[group])}"
        for group in sorted(names, key=lambda group: -sizes[group])
    }


def _beginning(name: str) -> str:
    first, *others = name.split(".")
    whole = {"model": 2, "text_encoders": 2, "cond_stage_model": 2}  # a group within a group
    return ".".join([first, *others[: whole.get(first, 1) - 1]])


def _alike(group: str, names: Iterable[str]) -> str:
    bare = [name.removeprefix(f"{group}.").removeprefix("transformer.") for name in names]
    kind = looks_like(bare) or looks_like(names)
    return f": {kind}" if kind else ""


def _model(path: Path, header: Header, kind: str) -> Shown:
    from ..base_family import base_family

    told = provenance(header.metadata)
    groups = parts(header)
    try:
        fam: Any = base_family(path)
    except AnimeflowError as error:
        return Shown(
            f"weights that look like {kind}, and that no family here takes",
            {"why not": error.why or error.what, **summary(header), "parts": groups, **told},
        )
    config = _class_beside(path)
    whole = any(kind in text for text in groups.values() for kind in ("an autoencoder", "text encoder"))
    place = "ComfyUI/models/checkpoints" if whole else "ComfyUI/models/diffusion_models"
    place = "a pipeline of diffusers, of which its folder is a part" if config else place
    alone = "with other parts" if whole else "the diffusion model alone, without autoencoder and text encoders"
    return Shown(
        f"a model: {fam.name}, {fam.flavour}; {alone}",
        {
            "family": fam.name,
            "flavour": fam.flavour,
            "class": config,
            **summary(header),
            "parts": groups,
            "put it in": place,
            **told,
        },
        (
            f"animeflow sample sample.source={path}",
            f"animeflow lora FOLDER --base {path}",
        ),
    )


def _average(header: Header) -> Shown:
    from ...learn.explain import parsed

    found = parsed(header.metadata[AVERAGE])
    made = found if isinstance(found, dict) else {}
    facts = {
        "run": made.get("run"),
        "images seen": made.get("images_seen"),
        "width": made.get("sigma_rel"),
        **summary(header),
    }
    return Shown(
        "averaged weights of a run, which 'animeflow ema' made out of its snapshots: only what trained",
        facts,
        (f"animeflow export name={made.get('run')} export.weights=FILE",),
    )


def _of_checkpoint(path: Path, header: Header) -> Shown:
    return Shown(
        f"a part of a checkpoint: {path.stem}. Training goes on from the whole folder; no other program reads it",
        {"checkpoint": str(path.parent), **summary(header)},
        (f"animeflow show {path.parent}", "animeflow export name=RUN"),
    )


def _of_cache(header: Header) -> Shown:
    entries = {name.split("/")[0] for name in header.tensors}
    return Shown(
        "a part of a cache: latents or text features that were encoded once",
        {"entries": f"{len(entries):,}", **summary(header)},
        ("animeflow cache",),
    )


def _class_beside(path: Path) -> str | None:
    """What the config in the file's folder calls the network, as diffusers and transformers write it."""
    file = path.with_name("config.json")
    try:
        value = json.loads(file.read_text()) if file.is_file() else {}
        name = value.get("_class_name") or (value.get("architectures") or [None])[0]
    except (ValueError, AttributeError, IndexError, TypeError, KeyError, RecursionError):
        return None
    return None if name is None else str(name)


def _other(path: Path, header: Header, kind: str | None) -> Shown:
    config = _class_beside(path)
    if kind is None and (any(name.startswith(TAESD) for name in header.tensors) or "Autoencoder" in (config or "")):
        kind = "an autoencoder"
    known = {words for _, words in LAST}
    what, place = PLACES.get(kind or "", ("", None))
    told = provenance(header.metadata)
    place = "a pipeline of diffusers, of which its folder is a part" if config else place
    facts = {
        "class": config,
        **summary(header),
        "put it in": place,
        "parts": parts(header),
        "keys": _patterns(header),
        **told,
    }
    if kind is None:
        return Shown("tensors of a kind that is not known here", facts)
    if what:
        return Shown(f"{kind}: {what}", facts)
    return Shown(f"weights that look like {kind}" + (", which is not trained here" if kind in known else ""), facts)


def _patterns(header: Header, *, shown: int = 6) -> str:
    """Names with their numbers taken out, the most frequent first."""
    counts = Counter(".".join("#" if part.isdigit() else part for part in name.split(".")) for name in header.tensors)
    told = [f"{name} ({n})" if n > 1 else name for name, n in counts.most_common(shown)]
    more = len(counts) - len(told)
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")
