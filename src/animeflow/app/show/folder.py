"""What a folder is: a run, an export, a set or a part of one, a checkpoint, a pipeline, a folder of pictures. Knows file names and
manifests; loads no tensor."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...core.files import read_json
from . import page
from .header import PICKLED
from .shown import Shown

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".jxl")
CAPTIONS = (".txt", ".caption", ".json")
SHARDS, CHECKPOINT, EXPORT = "manifest.json", "MANIFEST.json", "record.json"


def show_folder(path: Path) -> Shown:
    """Raises ConfigError for a folder that is none of ours, and says what lies in it."""
    from .lora import CONFIG
    from .lora import show_folder as show_peft

    if (path / CONFIG).is_file() and (path / "adapter_model.safetensors").is_file():
        return show_peft(path)
    kinds: dict[Callable[[Path], bool], Callable[[Path], Shown]] = {
        lambda p: (p / CHECKPOINT).is_file(): _checkpoint,
        lambda p: _manifest(p).get("kind") in ("export", "lora"): _export,
        lambda p: (p / "catalogue.parquet").is_file(): _catalogue,
        lambda p: (p / "index.parquet").is_file() and (p / SHARDS).is_file(): _shards,
        lambda p: (
            (p / "config.json").is_file() and any((p / n).exists() for n in ("checkpoints", "metrics.jsonl"))
        ): _run,
        lambda p: any(p.glob("*/latents/*.index.npz")) or any(p.glob("latents/*.index.npz")): _cache,
        lambda p: any((p / name).is_dir() for name in ("shards", "catalogue", "cache")): _set,
        lambda p: (p / "model_index.json").is_file() or (p / "modular_model_index.json").is_file(): _pipeline,
        lambda p: (p / "truth.jsonl").is_file(): _drawn,
    }
    for fits, show in kinds.items():
        if fits(path):
            return show(path)
    return _files(path)


def _manifest(path: Path, name: str = SHARDS) -> Mapping[str, Any]:
    value = read_json(path / name) if (path / name).is_file() else {}
    return value if isinstance(value, dict) else {}


def _checkpoint(path: Path) -> Shown:
    from ...train.stored import verify

    manifest, state = _manifest(path, CHECKPOINT), _manifest(path, "state.json")
    problem, snapshot = verify(path, hashes=False), state.get("kind") == "snapshot"
    progress = state.get("progress") or {}
    facts = {
        "images seen": progress.get("images_seen", state.get("images_seen", manifest.get("images"))),
        "steps": progress.get("step"),
        "processes": manifest.get("processes", 1),
        "holds": ", ".join(manifest.get("groups") or [Path(name).stem for name in manifest.get("files", {})]),
        "size": page.size(sum(each.get("bytes", 0) for each in (manifest.get("files") or {}).values())),
        "state": "whole, by the sizes of its files" if problem is None else f"broken: {problem}",
    }
    if snapshot:
        return Shown("a snapshot of a run's averages, out of which 'animeflow ema' makes others", facts)
    return Shown(
        "a checkpoint: everything that training needs to go on, bit for bit; no other program reads it", facts,
        ("animeflow train name=RUN", "animeflow export name=RUN"),
    )  # fmt: skip


def _run(path: Path) -> Shown:
    config, record = _manifest(path, "config.json"), _manifest(path, "record.json")
    checkpoints = sorted(each.name for each in (path / "checkpoints").glob("[0-9]*")) if path.exists() else []
    learn = record.get("learn") or config.get("learn") or {}
    model = config.get("model") or {}
    name = config.get("name", path.name)
    facts = {
        "name": name,
        "model": " ".join(str(model[key]) for key in ("family", "flavour") if model.get(key)),
        "base": record.get("base"),
        "learns": _learns(learn),
        "images seen": _of(record.get("images_seen"), (config.get("train") or {}).get("images")),
        "steps": record.get("steps"),
        "pictures": (record.get("data") or {}).get("images"),
        "checkpoints": f"{len(checkpoints)}, the newest at {int(checkpoints[-1]):,} images" if checkpoints else "none",
        "samples": _counted(path / "samples", "*/*.png"),
        "export": str(path / "export") if (path / "export").is_dir() else "none yet",
        "hardware": record.get("hardware"),
        "date": record.get("date"),
        "set": config.get("set"),
    }
    words = path / "lora.words"  # of `animeflow lora`, whose runs are no other experiment's
    hints = [f"animeflow train {shlex.quote(f'@{words}') if words.is_file() else f'name={name}'}"]
    hints.append(f"animeflow report name={name}")
    return Shown("a run", facts, (*hints, f"animeflow export name={name}"))


def _of(seen: Any, whole: Any) -> str | None:
    return None if seen is None else f"{seen:,} of {whole:,}" if isinstance(whole, int) else f"{seen:,}"


def _learns(learn: Mapping[str, Any]) -> str:
    if learn.get("kind", "everything") == "everything":
        return "everything"
    return f"a {learn['kind']} of rank {learn.get('rank')}" + (f" on {learn['base']}" if learn.get("base") else "")


def _export(path: Path) -> Shown:
    manifest, record = _manifest(path), _manifest(path, EXPORT)
    files = manifest.get("files") or []
    missing = [file["path"] for file in files if not (path / file["path"]).is_file()]
    facts: dict[str, Any] = {
        "name": record.get("name"),
        "family": " ".join(str(record[key]) for key in ("family", "flavour") if record.get(key)),
        "base": record.get("base"),
        "made from": record.get("parent"),
        "images seen": record.get("images_seen"),
        "dtype": manifest.get("dtype"),
        "size": page.size((manifest.get("counts") or {}).get("bytes", 0)),
        "date": record.get("date"),
        "missing": ", ".join(missing) or None,
    }
    if manifest.get("kind") == "lora":
        for name, each in (record.get("dialects") or {}).items():
            facts[name] = (
                f"{each.get('file')}: for {', '.join(each.get('readers') or [])}, in {_plain(each.get('place'))}"
            )
        return Shown("a LoRA, once for each program", facts, (f"less {path / 'README.md'}",))
    places = manifest.get("places") or {}
    facts |= {layout: _plain(places.get(layout)) for layout in manifest.get("layouts") or []}
    hints = (f"animeflow sample sample.source={path}", f"less {path / 'README.md'}")
    return Shown("an export: a model for other programs", facts, hints)


def _plain(text: Any) -> str:
    return str(text or "").replace("`", "")


def _set(path: Path) -> Shown:
    parts = {"catalogue": _catalogue, "shards": _shards, "cache": _cache}
    facts: dict[str, Any] = {}
    for name, show in parts.items():
        there = (path / name).is_dir()
        facts[name] = page.words(show(path / name).facts) if there else "none yet"
    facts["codec"] = "its own" if (path / "codec").exists() else None
    return Shown("a set: pictures on their way to training", facts, (f"animeflow show {path / 'catalogue'}",))


def _catalogue(path: Path) -> Shown:
    manifest = _manifest(path)
    told: dict[str, Any] = {
        key: value for key, value in manifest.items() if isinstance(value, int | float) and key != "version"
    }
    told |= {"bytes": page.size(told["bytes"])} if "bytes" in told else {}
    counts = {
        key: value for key, value in manifest.items() if isinstance(value, dict) and key not in ("config", "sha256")
    }
    return Shown("a catalogue: pictures and what is known of them", {**told, **counts})


def _shards(path: Path) -> Shown:
    manifest = _manifest(path)
    facts = {
        "pictures": manifest.get("written"),
        "found": manifest.get("found"),
        "rejected": manifest.get("reasons"),
        "buckets": {name: each.get("samples") for name, each in (manifest.get("buckets") or {}).items()},
        "shards": len(manifest.get("shards") or []),
        "size": page.size(manifest.get("bytes", 0)),
        "samples hash": manifest.get("samples"),
    }
    return Shown("shards: pictures cut into buckets, in WebDataset's tar files", facts)


def _cache(path: Path) -> Shown:
    facts = {}
    for kind in ("latents", "texts"):
        files = sorted(path.rglob(f"{kind}/*.safetensors"))
        size = sum(file.stat().st_size for file in files)
        facts[kind] = f"{page.count(len(files), 'file')}, {page.size(size)}" if files else None
    facts["families"] = ", ".join(sorted(each.parent.name for each in path.glob("*/latents"))) or None
    return Shown("a cache: latents and text features, encoded once", facts, ("animeflow cache",))


def _pipeline(path: Path) -> Shown:
    from ..base_family import base_family

    parts = sorted(each.name for each in path.iterdir() if each.is_dir())
    size = page.size(sum(file.stat().st_size for file in path.rglob("*.safetensors")))
    try:
        fam: Any = base_family(path)
    except ConfigError as error:
        return Shown(
            "a pipeline of diffusers that no family here takes",
            {"parts": parts, "size": size, "why not": error.why or error.what},
        )
    return Shown(
        f"a model: {fam.name}, {fam.flavour}, as a pipeline of diffusers",
        {"family": fam.name, "flavour": fam.flavour, "parts": ", ".join(parts), "size": size},
        (
            f"animeflow sample sample.source={path}",
            f"animeflow lora FOLDER --base {path}",
        ),
    )


def _drawn(path: Path) -> Shown:
    manifest = _manifest(path)
    return Shown(
        "pictures that a program drew, with their truth",
        {"pictures": _counted(path, "**/*.png"), **{key: value for key, value in manifest.items() if key != "sha256"}},
        (f"animeflow catalogue catalogue=toonworld catalogue.root={path}",),
    )


def _counted(path: Path, pattern: str) -> int | None:
    return sum(1 for _ in path.glob(pattern)) or None if path.is_dir() else None


def _files(path: Path) -> Shown:
    """A folder without a manifest: pictures with captions, or weights, or nothing that is known."""
    kinds = Counter(each.suffix.lower() for each in path.iterdir() if each.is_file())
    pictures = sum(kinds[kind] for kind in PICTURES)
    if pictures:
        captioned = sum(
            any(each.with_suffix(end).is_file() for end in CAPTIONS)
            for each in path.iterdir()
            if each.suffix.lower() in PICTURES
        )
        return Shown(
            "pictures", {"pictures": pictures, "with a caption beside them": captioned},
            (f"animeflow lora {path}",),
        )  # fmt: skip
    weights, pickles = kinds[".safetensors"], sum(kinds[kind] for kind in PICKLED)
    if not weights and not pickles:
        inside = ", ".join(sorted(each.name for each in path.iterdir())[:6])
        raise ConfigError(
            "nothing here is known" + (f": it holds {inside}" if inside else ": it is empty"),
            where=str(path),
            do="give a file, or a folder that animeflow, diffusers or peft wrote",
        )
    names = sorted(each.name for each in path.glob("*.safetensors"))
    facts = {"safetensors": weights, "files": ", ".join(names[:6]), "pickled": pickles or None}
    return Shown("a folder of weights", facts, tuple(f"animeflow show {path / name}" for name in names[:3]))
