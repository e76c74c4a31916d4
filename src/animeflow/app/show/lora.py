"""What a LoRA is, by its header and alphas: for which family, in whose names, how strong, what to prompt for. Knows endings of
names and asks every family for the rest; loads no factor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import AnimeflowError, DataError
from ...model import registry
from . import page
from .header import Header
from .shown import Shown
from .weights import provenance, summary

if TYPE_CHECKING:
    from ...model.dialect import Dialect

CONFIG = "adapter_config.json"  # beside the file of a peft folder
SMALL = 500_000_000  # bytes
JOINED = "qkv"  # a layer of queries, keys and values: three ranks side by side


def show_lora(path: Path, header: Header, *, folder: Path | None = None) -> Shown:
    """`folder`: of peft, whose file this is."""
    from ...model.lora_keys import MAGNITUDE, of_text_encoder, refuse_other_kinds, taken_apart

    told = provenance(header.metadata)
    try:
        refuse_other_kinds(header.tensors)
    except AnimeflowError as error:
        return Shown(f"an addition to a model that is not read here: {error.what}", {**summary(header), **told})
    text = of_text_encoder(header.tensors)
    names = [name for name in header.tensors if name not in text]
    family, dialect = _whose(names) if names else (None, None)
    kinds = [apart[1] for name in names if (apart := taken_apart(name))]
    recorded: dict[str, Any] = {key: told.pop(key) for key in ("rank", "alpha") if key in told}  # the tensors tell, too
    facts: dict[str, Any] = {"trigger": told.pop("trigger", None), "family": family}
    if family is None:
        kind = f"a LoRA whose layers are of no family here{_alike(path, header)}"
        facts["keys"] = ", ".join(list(header.tensors)[:3])
        return Shown(kind, {**facts, **_strength(path, header, folder, names), **recorded, **summary(header), **told})
    words = registry.dialects(family)[str(dialect)]
    facts |= {
        "names": dialect,
        "read by": ", ".join(_readers(words, dora=MAGNITUDE in kinds)),
        "put it in": words.place.replace("`", ""),
    }
    facts |= _strength(path, header, folder, names)
    if any(JOINED in name for name in names):
        facts["layers"] = f"{facts['layers']} in these names, which join queries, keys and values of an attention"
    if MAGNITUDE in kinds:
        facts["DoRA"] = "yes: each row has a length of its own; programs that do not read it draw something else"
    if text:
        facts["text encoders"] = f"{len(text)} keys add to text encoders; animeflow does not read these"
    target = folder or path
    hints = [f"animeflow lora check {target}"]
    others = [name for name in registry.dialects(family) if name != dialect]
    hints.append(f"animeflow lora convert {target} --to {'|'.join(others)}")
    return Shown(f"a LoRA for {family}", {**facts, **summary(header), **told}, tuple(hints))


def _readers(dialect: Dialect, *, dora: bool) -> tuple[str, ...]:
    """Who reads a file of this dialect, all that is in it."""
    if not dora:
        return dialect.readers
    import torch

    from ...model.low_rank import LowRank

    blank = torch.zeros(1, 1)
    return dialect.readers_of({"": LowRank(blank, blank, 1.0, blank[0])})


def show_folder(folder: Path) -> Shown:
    """A folder as peft writes them."""
    from .header import read_header

    path = folder / "adapter_model.safetensors"
    return show_lora(path, read_header(path), folder=folder)


def _whose(names: list[str]) -> tuple[str | None, str | None]:
    for family in registry.names():
        for dialect in registry.dialects(family).values():
            if dialect.matches(names):
                return family, dialect.name
    return None, None


def _alike(path: Path, header: Header) -> str:
    """What reading it whole complains of, which tells what it looks like. Only of files that are small enough for that."""
    from ...learn.files import read_lora

    if header.bytes > SMALL:
        return ""
    try:
        read_lora(path)
    except AnimeflowError as error:
        return (
            "; this looks like" + error.what.split("; this looks like")[1].split(";")[0]
            if "looks like" in error.what
            else ""
        )
    return ""


def _strength(path: Path, header: Header, folder: Path | None, names: list[str]) -> dict[str, Any]:
    """Layers, ranks and the scale alpha / rank that programs multiply with."""
    from ...model.lora_keys import ALPHA, DOWN, taken_apart

    ranks, alphas = {}, {}
    for name in names:
        layer, kind = taken_apart(name) or ("", "")
        if kind == DOWN and header.tensors[name].shape:
            ranks[layer] = header.tensors[name].shape[0]
        elif kind == ALPHA:
            alphas[layer] = name
    found = _numbers(path, alphas)
    said = _said(header, folder)
    pairs = [(rank, _alpha(layer, rank, found, said)) for layer, rank in ranks.items()]
    rank_words = ", ".join(
        f"{rank} ({page.count(n, 'layer')})" for rank, n in Counter(r for r, _ in pairs).most_common(4)
    )
    scales = sorted({round(alpha / rank, 6) for rank, alpha in pairs if rank})
    scale = f"{scales[0]:g}" if len(scales) == 1 else f"{scales[0]:g} to {scales[-1]:g}" if scales else None
    if scale is not None:
        scale += " (alpha / rank)" if alphas or said else " (no alpha: it counts as it is)"
    return {"layers": len(ranks), "rank": rank_words or None, "scale": scale}


def _numbers(path: Path, alphas: dict[str, str]) -> dict[str, float]:
    """Alphas are single numbers: reading them reads nothing else."""
    if not alphas:
        return {}
    from ...model.tensor_file import open_tensors

    with open_tensors(path) as file:
        return {layer: float(file.get_tensor(name)) for layer, name in alphas.items()}


def _said(header: Header, folder: Path | None) -> dict[str, Any]:
    """peft's own words for alpha: in the folder's config, or in the header as diffusers writes them."""
    from ...learn.explain import parsed

    if folder is not None and (folder / CONFIG).is_file():
        value = parsed((folder / CONFIG).read_text(encoding="utf-8", errors="replace").strip())
        if not isinstance(value, dict):
            raise DataError("this is no whole JSON", where=str(folder / CONFIG), do="copy or save it again")
        return value
    value = parsed(header.metadata.get("lora_adapter_metadata", ""))
    return {key.split(".")[-1]: item for key, item in value.items()} if isinstance(value, dict) else {}


def _alpha(layer: str, rank: int, found: dict[str, float], said: dict[str, Any]) -> float:
    if layer in found:
        return found[layer]
    pattern = said.get("alpha_pattern")
    patterns = pattern.items() if isinstance(pattern, dict) else ()
    own = next((value for name, value in patterns if layer.endswith(str(name))), said.get("lora_alpha"))
    try:
        return float(own) * (rank**0.5 if said.get("use_rslora") else 1.0)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float(rank)
