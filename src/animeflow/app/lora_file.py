"""What the verbs for LoRA files share: reading one, its base, where the next one goes, what its header says. Knows files and words;
knows no dialect's names."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigError, DataError, did_you_mean
from ..learn.explain import parsed
from ..model import registry
from .show.header import read_header

if TYPE_CHECKING:
    from ..learn.files import LoraFile
    from ..model.dialect import Dialect
    from ..model.low_rank import LowRankState

log = logging.getLogger(__name__)

FOLDER = "peft"  # the dialect that is a folder
CHANGES = "animeflow.changes"
STALE = ("sshs_", "modelspec.hash")  # of the numbers that were in the file before
ALPHAS = ("lora_adapter_metadata",)  # of the dialect before: another has other names
TOLERANCE = {
    "float32": 1e-6,
    "float16": 2e-3,
    "bfloat16": 1e-2,
}  # of |delta W|: the rounding of both factors, twice over


def read(path: str, family: str | None, *, where: str = "FILE") -> LoraFile:
    """Raises ConfigError for a family or a path that does not exist; what is wrong with the file is a DataError."""
    from ..learn.files import read_lora

    require_family(family)
    if not Path(path).exists():
        near = [each.name for each in Path(path).parent.glob("*.safetensors")] if Path(path).parent.is_dir() else []
        raise ConfigError(
            f"there is no {path}{did_you_mean(Path(path).name, near)}", where=where, do="give the path of a LoRA file"
        )
    if Path(path).is_file():
        read_header(Path(path))  # says what a file is that is none of safetensors
    found = read_lora(path, family=family)
    if found.text_encoder_keys:
        log.warning(
            "%s also adds to text encoders (%d keys), which are not read: what is written from it lacks them",
            Path(path).name,
            len(found.text_encoder_keys),
        )
    return found


def require_family(family: str | None) -> None:
    if family is not None and family not in registry.names():
        raise ConfigError(
            f"unknown family '{family}'{did_you_mean(family, registry.names())}",
            where="--family",
            do=f"choose one of: {', '.join(registry.names())}",
        )


def dialects(family: str) -> Mapping[str, Dialect]:
    return registry.dialects(family)


def place_for(source: Path, ending: str, *, dialect: str, out: str | None, was: str = "") -> Path:
    """Where to write: `--out`, or beside the source under its name and `ending`; a folder for the one dialect that is one.

    Args:
        was: an ending of the source's name that is no longer true.

    Raises:
        ConfigError: something lies there already, the source itself among others.
    """
    suffix = "" if dialect == FOLDER else ".safetensors"
    stem = (source.name if source.is_dir() else source.stem).removesuffix(f"_{was}")
    path = Path(out) if out else source.with_name(f"{stem}_{ending}{suffix}")
    if out and path.is_dir() and suffix:
        path = path / f"{stem}_{ending}{suffix}"
    if suffix and path.suffix != suffix:
        raise ConfigError(f"'{path.name}' does not end with {suffix}", where="--out", do="programs go by the ending")
    require_free(path, source)
    return path


def require_free(path: Path, source: Path) -> None:
    if path.exists() and source.exists() and path.resolve() == source.resolve():
        raise ConfigError(
            f"{path} is the file itself", where="--out", do="give another place: a LoRA is never overwritten"
        )
    if path.exists():
        raise ConfigError(f"{path} is there already", where="--out", do="give --out, or take that one away first")


def write(
    path: Path, state: LowRankState, *, family: str, dialect: str, dtype: Any, metadata: Mapping[str, str]
) -> tuple[list[Path], float]:
    """Write, read back as any other file and compare delta W. Returns the files and how far it came back apart, at most.

    Raises:
        DataError: further than rounding to `dtype` explains; nothing is left behind then.
    """
    from ..learn.check import compare
    from ..learn.files import read_lora, write_lora

    made = write_lora(path, state, family=family, dialect=dialect, dtype=dtype, metadata=metadata)
    apart, kind = compare(state, read_lora(path, family=family).state), str(dtype).removeprefix("torch.")
    if apart > TOLERANCE[kind]:
        if path.is_dir():  # peft's, with another in it for a second network
            shutil.rmtree(path)
        for file in made:
            file.unlink(missing_ok=True)
        raise DataError(
            f"delta W comes back {apart:.2g} apart, and rounding to {kind} explains {TOLERANCE[kind]:g}", where=str(path),
            why="the file would draw something else", do="write it with --dtype fp32",
        )  # fmt: skip
    return made, apart


def changed(metadata: Mapping[str, str], change: str, state: LowRankState) -> dict[str, str]:
    """The header of a file made from another: what it said, without what is no longer true, and what was done to it."""
    kept = {key: value for key, value in metadata.items() if not key.startswith(STALE) and key not in ALPHAS}
    kept = {key: value for key, value in kept.items() if key not in ("format", "animeflow.dialect")}
    text = kept.get(CHANGES, "")  # of a stranger's file: any
    history = before if isinstance(before := parsed(text), list) else [text] if text else []
    return kept | ranks(state) | {CHANGES: json.dumps([*history, change], ensure_ascii=False)}


def ranks(state: LowRankState) -> dict[str, str]:
    """kohya's words for rank and alpha, as they now are."""
    found, alphas = {each.rank for each in state.values()}, {float(each.alpha) for each in state.values()}
    return {
        "ss_network_dim": str(found.pop()) if len(found) == 1 else "Dynamic",
        "ss_network_alpha": str(alphas.pop()) if len(alphas) == 1 else "Dynamic",
    }


def readers(family: str, dialect: str, state: LowRankState) -> dict[str, str]:
    """Who reads this dialect, and where its file goes: for people."""
    words = dialects(family)[dialect]
    return {"read by": ", ".join(words.readers_of(state)), "put it in": words.place.replace("`", "")}
