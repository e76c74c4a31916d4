"""The weights, codecs, text encoders and tokenizers that the presets name: there, readable, of the right family; else what to put
where. Reads headers, never tensors; downloads nothing; knows families by the registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import AnimeflowError
from ...core.files import read_json
from ..jobs import family_without_files
from ..wiring import family
from .finding import Finding, error, ok, warning
from .presets import presets

PARTS = ("weights", "codec", "text", "tokenizers")
WORDS = {"weights": "diffusion model", "codec": "autoencoder", "text": "text encoder", "tokenizers": "tokenizers"}
INDEXES = ("model_index.json", "modular_model_index.json")  # of a diffusers folder
VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "vocab.txt")


def look(config: Mapping[str, Any], *, chosen: bool) -> list[Finding]:
    """Every preset that names files. Those of the `chosen` model have to be there; others may be missing."""
    own = config["model"]
    found = []
    for name, node in presets().items():
        needed = chosen and (node["family"], node.get("flavour")) == (own["family"], own.get("flavour"))
        mine = own if needed else node
        if mine.get("weights") is not None:
            found += preset(name, mine, needed=needed)
    return found


def preset(name: str, node: Mapping[str, Any], *, needed: bool) -> list[Finding]:
    """One preset: a line for what is missing, or one for what is there."""
    title = f"model {name}"
    named = {part: Path(str(node[part])) for part in PARTS if node.get(part) is not None}
    missing = {part: path for part, path in named.items() if not path.exists()}
    level = error if needed else warning
    if missing:
        lines = [f"{WORDS[part]} at {path}{_size(node, part)}" for part, path in missing.items()]
        there = [part for part in named if part not in missing]
        what = f"not there: {'; '.join(lines)}" + (f" (there: {', '.join(there)})" if there else "")
        path = next(iter(missing.values()))
        do = f"put it there, or say where it is: model={name} model.{next(iter(missing))}=PATH"
        if "weights" in missing and path.suffix != ".safetensors":
            do = f"put a whole diffusers folder at {path}, or say where it is: model={name} model.weights=FOLDER"
        return [level(title, what, do=do, why=None if needed else f"only runs with model={name} need it")]
    try:
        fam = family({"model": node, "seed": 0})  # reads headers and configs
    except AnimeflowError as wrong:
        return [level(title, wrong.what, why=wrong.why, do=wrong.do or f"give another file as model.{PARTS[0]}=PATH")]
    broken = [line for part, path in named.items() for line in incomplete(path, tokenizers=part == "tokenizers")]
    if broken:
        return [level(title, "; ".join(broken), why="it was copied only in part", do="copy or download it again")]
    return [ok(title, f"{fam.name}/{fam.flavour}: {', '.join(str(path) for path in named.values())}")]


def incomplete(path: Path, *, tokenizers: bool = False) -> Iterator[str]:
    """What a folder lacks of what its own index names; of tokenizers, their vocabularies; of a file, its header and length."""
    if path.is_file():
        yield from _file(path)
        return
    for index in (path / name for name in INDEXES if (path / name).is_file()):
        for part, said in read_json(index).items():
            if part.startswith("_") or not isinstance(said, list) or not said or said[0] is None:
                continue
            if not any((path / part).glob("*.json")):
                yield f"{path} names a part '{part}' that is not there"
    for file in sorted(path.rglob("*.safetensors")):
        yield from _file(file)
    for folder in sorted(path.rglob("*tokenizer*")) if path.is_dir() else []:
        if folder.is_dir() and not any((folder / name).is_file() for name in VOCABULARIES):
            yield f"{folder} holds no vocabulary ({', '.join(VOCABULARIES[:3])})"
    if tokenizers and not any(path.rglob(name) for name in VOCABULARIES if any(path.rglob(name))):
        yield f"{path} holds no tokenizer ({', '.join(VOCABULARIES[:3])})"


def _file(path: Path) -> Iterator[str]:
    """safetensors' own reader refuses a file whose length is not what its header says."""
    from ...model.tensor_file import open_tensors

    if path.suffix != ".safetensors":
        return
    try:
        with open_tensors(path):
            pass
    except AnimeflowError as wrong:
        yield f"{path}: {wrong.what}"


def _size(node: Mapping[str, Any], part: str) -> str:
    """Of a part as files usually hold it, in 16 bits: from the number of parameters."""
    try:
        sizes = {size.name: size.parameters for size in family_without_files({"model": node, "seed": 0}).sizes()}
    except AnimeflowError:
        return ""
    codec = sizes.pop("codec", 0)
    learner = sum(number for name, number in sizes.items() if name in ("backbone", "adapter"))
    text = sum(sizes.values()) - learner
    whole = node.get("codec") is None and node.get("text") is None  # a folder of everything
    count = {"weights": learner + (codec + text if whole else 0), "codec": codec, "text": text}.get(part, 0)
    return f", about {2 * count / 1e9:.1f} GB in 16 bits" if count else ""
