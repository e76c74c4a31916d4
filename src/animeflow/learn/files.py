"""LoRA files of any dialect, and back. Knows files and asks every family for its dialects; knows no family and no name of a layer.

Nothing is unpickled. A file is written beside its place, read again and compared before it takes its name.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import ConfigError, DataError, did_you_mean
from ..core.files import atomic_folder, atomic_path
from ..model import registry
from ..model.dialect import Dialect
from ..model.likeness import looks_like
from ..model.lora_keys import DOWN, of_text_encoder, refuse_other_kinds, taken_apart
from ..model.lora_table import TableDialect
from ..model.low_rank import LowRank, LowRankState
from ..model.names import listed
from ..model.tensor_file import cast, read_metadata, read_tensors, write_tensors
from .metadata import hashes
from .peft_folder import CONFIG, TENSORS, alphas_of_header, is_peft_folder, read_folder, write_folder

HEADER = "animeflow.family"  # in files of ours
FOLDER = "peft"  # the one dialect that is a folder
PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
ROUNDING = 1e-5  # of a float32 that was scaled and scaled back


@dataclass(frozen=True)
class LoraFile:
    """What lay at a path.

    Attributes:
        state: float32, whatever the file has.
        metadata: strings of the header.
        dtype: of most tensors in the file.
        text_encoder_keys: additions to text encoders, which are in no state: who uses the file here has to say so.
    """

    family: str
    dialect: str
    state: LowRankState
    metadata: dict[str, str]
    dtype: torch.dtype
    path: Path
    text_encoder_keys: tuple[str, ...] = ()


def read_lora(path: str | Path, *, family: str | None = None) -> LoraFile:
    """Read a file or peft folder; the names in it tell family and dialect.

    Args:
        family: the only one to think of; None asks all.
    Raises:
        ConfigError: there is nothing at `path`.
        DataError: broken, pickled, not a LoRA, of another kind or another network, or of more than one family.
    """
    path = Path(path)
    tensors, metadata = _tensors_at(path)
    with _of(path):
        refuse_other_kinds(tensors)
    aside = of_text_encoder(tensors)
    mine = {key: tensor for key, tensor in tensors.items() if key not in aside}
    if aside and not mine:
        raise DataError(
            f"this LoRA adds to text encoders only: {listed(aside)}",
            where=str(path),
            do="there is nothing to load here",
        )
    name, dialect = _told(mine, metadata, path, family=family)
    with _of(path):
        state = dialect.read(mine)
    dtypes = Counter(tensor.dtype for key, tensor in mine.items() if (taken_apart(key) or ("", ""))[1] == DOWN)
    return LoraFile(name, dialect.name, state, metadata, dtypes.most_common(1)[0][0], path, aside)


def write_lora(
    path: str | Path,
    state: LowRankState,
    *,
    family: str,
    dialect: str,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
) -> list[Path]:
    """Write additions; alphas stay float32, so that no scale is rounded. Returns the files.

    Args:
        path: a `.safetensors` file, or the folder of the dialect `peft`.
        metadata: strings for the header, where the family joins them.
    Raises:
        ConfigError: an unknown dialect, nothing to write, or something that the dialect has no words for.
        DataError: a number is not finite or does not fit `dtype`, or what was read back is not what was written.
    """
    path, words = Path(path), dialect_named(family, dialect)
    if not state:
        raise ConfigError("there is no addition to write", where=str(path), do="train one first")
    tensors = words.write(state)
    alphas = {key: tensor for key, tensor in tensors.items() if key.endswith(".alpha")}
    rounded = cast(tensors, dtype) | cast(alphas, torch.float32)
    check_same(state, words.read(tensors), where=str(path))
    metadata = {**metadata, HEADER: family}
    if dialect == FOLDER:
        with atomic_folder(path) as folder:
            files = [file.relative_to(folder) for file in write_folder(folder, rounded, metadata)]
        return [path / file for file in files]
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"'{path.name}' does not end with .safetensors", where=str(path), do="programs go by the ending"
        )
    with atomic_path(path) as beside:
        write_tensors(beside, rounded, {**metadata, **hashes(rounded, metadata)})
    return [path]


def dialect_named(family: str, dialect: str) -> Dialect:
    """Raises ConfigError for a family or dialect that does not exist."""
    known = registry.constructor(family).dialects()
    if dialect not in known:
        raise ConfigError(
            f"unknown dialect '{dialect}'{did_you_mean(dialect, known)}",
            where="export.dialects",
            do=f"choose one of: {', '.join(known)}",
        )
    return known[dialect]


def check_same(expected: LowRankState, found: LowRankState, *, where: str) -> None:
    """Raise DataError unless both add the same, tried on one random input per layer; a layer that is not there adds nothing."""
    wrong = []
    for name in expected.keys() | found.keys():
        one, other = expected.get(name), found.get(name)
        difference = torch.linalg.vector_norm(_said(one) - _said(other))
        if not difference <= ROUNDING * torch.linalg.vector_norm(_said(one)) or not _same_lengths(one, other):
            wrong.append(name)
    if wrong:
        raise DataError(
            f"{len(wrong)} layers do not come back as they were written: {listed(sorted(wrong))}",
            where=where,
            do="report this: the file would not do what was trained",
        )


def _said(addition: LowRank | None) -> Tensor:
    """What an addition says to one input, float64."""
    if addition is None:
        return torch.zeros((), dtype=torch.float64)
    down, up = (factor.detach().double().cpu().flatten(1) for factor in (addition.down, addition.up))
    asked = torch.linspace(-1, 1, down.shape[1], dtype=torch.float64).add(0.3).cos()
    return addition.scale * (up @ (down @ asked))


def _same_lengths(one: LowRank | None, other: LowRank | None) -> bool:
    first, second = (None if addition is None else addition.magnitude for addition in (one, other))
    if first is None or second is None:
        return first is second
    return torch.equal(first.float().cpu(), second.float().cpu())


def _tensors_at(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if path.name == TENSORS and (path.parent / CONFIG).is_file():
        path = path.parent
    if is_peft_folder(path, within=(within := _second_networks())):
        return read_folder(path, within=within)
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if len(files) != 1:
            raise ConfigError(
                f"found {len(files)} safetensors files, need one", where=str(path), do="give the LoRA file itself"
            )
        path = files[0]
    if not path.is_file():
        raise ConfigError("there is no such file", where=str(path), do="give a LoRA file, or a folder of peft")
    if path.suffix.lower() in PICKLED:
        raise DataError(
            f"'{path.suffix}' files are pickled",
            where=str(path),
            why="opening one runs whatever code it holds",
            do="get it as safetensors, or convert it where you trust it",
        )
    tensors, metadata = read_tensors(path), read_metadata(path)
    return tensors | alphas_of_header(metadata, tensors, where=str(path)), metadata


def _second_networks() -> set[str]:
    """Folders in a folder of peft, of the dialects that have any."""
    known = (registry.constructor(name).dialects().get(FOLDER) for name in registry.names())
    return {folder for each in known if isinstance(each, TableDialect) for folder in each.folders}


def _told(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path, *, family: str | None
) -> tuple[str, Dialect]:
    """Family and dialect by the names; the header only where these fit two families."""
    known = [(name, each) for name in registry.names() for each in registry.constructor(name).dialects().values()]
    found = [(name, dialect) for name, dialect in known if dialect.matches(tensors)] or _nearest(known, tensors)
    families = sorted({name for name, _ in found})
    if family is not None and families and family not in families:
        raise DataError(
            f"this is a LoRA for {' or '.join(families)}, not for {family}",
            where=str(path),
            do="give the base that it was trained for, or another LoRA",
        )
    if not found:
        raise DataError(
            f"these are no names of a LoRA that we know{_likeness(tensors)}; the first keys: {listed(sorted(tensors))}",
            where=str(path),
            do=f"LoRAs of these families are read: {', '.join(registry.names())}",
        )
    wanted = family or (families[0] if len(families) == 1 else metadata.get(HEADER))
    chosen = next((pair for pair in found if pair[0] == wanted), None)
    if chosen is None:
        raise DataError(
            f"this could be a LoRA for {' or '.join(families)}",
            where=str(path),
            why="all of its layers have names that these families share",
            do="say which family it is for",
        )
    return chosen


def _nearest(known: Sequence[tuple[str, Dialect]], tensors: Mapping[str, Tensor]) -> list[tuple[str, Dialect]]:
    """The dialect that knows most keys, if it knows more than half: it can name the ones that do not belong."""
    keys = [key for key in tensors if (taken_apart(key) or ("", ""))[1] == DOWN]
    counts = [sum(dialect.matches([key]) for key in keys) for _, dialect in known]
    best = max(counts, default=0)
    return [known[counts.index(best)]] if 2 * best > len(keys) else []


def _likeness(keys: Mapping[str, Tensor]) -> str:
    stems = [apart[0] for key in keys if (apart := taken_apart(key))]
    if not stems:
        kind = looks_like(keys)
        return f"; this looks like {kind}, not like a LoRA" if kind else ""
    prefixes = ("lora_unet_", "lora_transformer_", "diffusion_model.", "transformer.", "base_model.model.")
    bare = [stem.removeprefix(next((p for p in prefixes if stem.startswith(p)), "")) for stem in stems]
    joined = ("double_blocks_", "single_blocks_", "input_blocks_", "down_blocks_")  # kohya's names have no dots
    dotted = [name.replace(part, f"{part[:-1]}.") for name in bare for part in joined if part in name]
    kind = looks_like(dotted or bare)
    return f"; this looks like a LoRA for {kind}" if kind else ""


@contextlib.contextmanager
def _of(path: Path) -> Iterator[None]:
    """Complaints inside name the file."""
    try:
        yield
    except DataError as error:
        raise DataError(error.what, where=error.where or str(path), why=error.why, do=error.do) from error
