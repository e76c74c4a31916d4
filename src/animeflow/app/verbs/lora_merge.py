"""Add LoRA files to a base, or several of them to one LoRA file."""

from __future__ import annotations

import logging
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import ConfigError, did_you_mean
from ...core.files import read_json
from .. import lora_file
from ..base_family import base_family
from ..loras import parse
from ..show import page

if TYPE_CHECKING:
    from ...learn.files import LoraFile
    from ...learn.merge import Weighted

log = logging.getLogger(__name__)

FILES = "FILE=WEIGHT"
OF_FILES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}  # safetensors' words


def run(
    overrides: Sequence[str] = (),
    *,
    files: Sequence[str],
    base: str | None = None,
    family: str | None = None,
    out: str | None = None,
    layout: str | None = None,
    rank: int | None = None,
    dtype: str | None = None,
) -> None:
    from ...learn.merge import Weighted

    named = [parse(word, where=FILES) for word in files]
    found = [lora_file.read(str(path), family, where=FILES) for path, _ in named]
    _one_family(found)
    parts = [Weighted(path.name, each.state, weight) for (path, weight), each in zip(named, found, strict=True)]
    if base is None:
        _refuse({"--layout": layout}, "is of a merged model", "give --base too")
        _to_lora(named[0][0], found, parts, rank=rank, dtype=dtype, out=out)
    else:
        _refuse({"--rank": rank}, "is of a LoRA file, and a model has none", "leave it out")
        _to_model(named[0][0], found, parts, base=base, layout=layout, dtype=dtype, out=out)


def _one_family(found: Sequence[LoraFile]) -> None:
    families = {each.family: each.path.name for each in found}
    if len(families) > 1:
        said = ", ".join(f"{name} is for {family}" for family, name in families.items())
        raise ConfigError(f"these are for different models: {said}", where=FILES, do="merge LoRA files of one family")


def _refuse(options: dict[str, Any], what: str, do: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{name} {what}", where=f"{name} {value}", do=do)


def _recipe(parts: Sequence[Weighted]) -> str:
    return " + ".join(f"{part.weight:g} x {part.name}" for part in parts)


def _to_lora(
    first: Path,
    found: Sequence[LoraFile],
    parts: Sequence[Weighted],
    *,
    rank: int | None,
    dtype: str | None,
    out: str | None,
) -> None:
    """Ranks side by side, or the nearest delta W of `rank`."""
    from ...learn.merge import joined
    from ...learn.resize import kept_of_all, resize
    from ...model.tensor_file import dtype_named

    state, lost = joined(parts), None
    if rank is not None:
        state, told = resize(state, rank=rank)
        lost = f"{kept_of_all(told):.2%} of |delta W|^2; the exact sum has up to rank {max(e.before for e in told.values())}"
    dialect, family = found[0].dialect, found[0].family
    kind = found[0].dtype if dtype is None else dtype_named(dtype, where="--dtype")
    path = lora_file.place_for(first, "merged", dialect=dialect, out=out)
    metadata = lora_file.changed(_shared(found), f"merged: {_recipe(parts)}", state)
    metadata["animeflow.merged"] = _recipe(parts)
    written, apart = lora_file.write(path, state, family=family, dialect=dialect, dtype=kind, metadata=metadata)
    ranks = Counter(each.rank for each in state.values())
    page.title(f"{path}: {_recipe(parts)}")
    page.facts(
        {
            "layers": len(state),
            "rank": ", ".join(f"{each} ({page.count(n, 'layer')})" for each, n in ranks.most_common(3)),
            "kept": lost or "all: ranks lie side by side",
            "size": page.size(sum(each.stat().st_size for each in written)),
            "read back": f"within {apart:.1e} of the sum",
            **lora_file.readers(family, dialect, state),
        }
    )


def _shared(found: Sequence[LoraFile]) -> dict[str, str]:
    """What all the headers say alike; the words to prompt for are those of all."""
    first = found[0].metadata
    same = {key: text for key, text in first.items() if all(each.metadata.get(key) == text for each in found)}
    for key in ("animeflow.trigger", "modelspec.trigger_phrase"):
        words = [each.metadata[key] for each in found if each.metadata.get(key)]
        if words:
            same[key] = ", ".join(dict.fromkeys(words))
    return same


def _to_model(
    first: Path,
    found: Sequence[LoraFile],
    parts: Sequence[Weighted],
    *,
    base: str,
    layout: str | None,
    dtype: str | None,
    out: str | None,
) -> None:
    """The base's backbone with the sum on it, as an export: card, record, manifest, every tensor read back."""
    from ...export.export import export
    from ...export.record import RunRecord
    from ...learn.merge import merged

    path = Path(out) if out else first.with_name(f"{first.stem}_merged")
    if path.exists():
        raise ConfigError(f"{path} is there already", where="--out", do="give --out, or take that folder away first")
    fam = base_family(base, found[0].family)
    chosen = _layout(fam, layout, Path(base))
    kind = dtype or _stored(Path(base))
    width, height = _size(found, Path(base)) or ("WIDTH", "HEIGHT")
    recipe = f"{Path(base).name} + {_recipe(parts)}"
    state = merged(fam.backbone().export_state(), parts)
    report = export(
        fam,
        state,
        path,
        layouts=[chosen],
        dtype=kind,
        name=path.name,
        record=RunRecord(name=path.name, base=Path(base).name, parent=recipe, changes=[f"merged: {recipe}"]),
    )
    page.title(f"{path}: {recipe}")
    page.facts(
        {
            "family": f"{fam.name}, {fam.flavour}",
            "layout": chosen,
            "dtype": kind,
            "size": page.size(report.bytes),
            "put it in": fam.layouts()[chosen].place.replace("`", ""),
            "try it": f"animeflow sample {shlex.quote(f'sample.source={path}')} sample.height={height} sample.width={width}",
        }
    )


def _size(found: Sequence[LoraFile], base: Path) -> tuple[str, str] | None:
    """Width and height that the first LoRA was trained at, else the base, as far as they say so."""
    from ...learn.explain import explain

    record = read_json(base / "record.json") if (base / "record.json").is_file() else {}
    told = [explain(each.metadata).get("resolution") for each in found]
    told.append(record.get("resolution") if isinstance(record, dict) else None)
    sizes = (re.fullmatch(r"\(?(\d+)(?: *[x,] *(\d+))?\)?", str(each)) for each in told)
    return next(((size[1], size[2] or size[1]) for size in sizes if size), None)


def _layout(fam: Any, asked: str | None, base: Path) -> str:
    """The one that was asked for, or one like the base's: a pipeline folder, or else the backbone in a file."""
    known = {name: each for name, each in fam.layouts().items() if each.has_backbone}
    if asked is None:
        usual = ("diffusers",) if base.is_dir() else ("diffusion_only", "single_file")
        return next((name for name in usual if name in known), next(iter(known)))
    if asked not in known:
        raise ConfigError(
            f"{fam.name} has no layout '{asked}' of a model{did_you_mean(asked, known)}",
            where="--layout",
            do=f"choose one of: {', '.join(known)}",
        )
    return asked


def _stored(base: Path) -> str:
    """The dtype that most of the base's bytes are in."""
    from ..show.header import read_header

    inner = base / "transformer" if (base / "transformer").is_dir() else base
    every = [inner] if inner.is_file() else sorted(inner.rglob("*.safetensors"))
    sizes: Counter[str] = Counter()
    for file in every:
        for entry in read_header(file).tensors.values():
            sizes[OF_FILES.get(entry.dtype, "bf16")] += entry.bytes
    return sizes.most_common(1)[0][0] if sizes else "bf16"
