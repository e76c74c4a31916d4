"""Dialects of LoRA files out of a family's table of names. Knows rows of names and low-rank additions; knows no family and no disk.

A family that has a `names.Pair` table already gets its dialects from it: whatever the original file joins, swaps or renames, a LoRA
for it does alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property

import torch
from torch import Tensor

from ..core.errors import ConfigError, DataError
from .lora_keys import ALPHA, DOWN, MAGNITUDE, UP, refuse_other_kinds, taken_apart
from .lora_names import BLOCK, Row, Spelling, pattern_of
from .low_rank import LowRank, LowRankState
from .low_rank_stack import halves_swapped, stacked, unstacked
from .names import listed

# ComfyUI's pull request 15458, open since August 2026.
DORA_IN_COMFYUI = (
    "ComfyUI divides DoRA's rows by |W| instead of |W + delta W|, so it draws a little otherwise than training did; kohya's "
    "scripts drop its lengths and read it as a plain LoRA. Merged into the model it is exact everywhere."
)
NO_DORA_IN_COMFYUI = "ComfyUI does not see DoRA in this file and applies it as a plain LoRA: give it another dialect."


@dataclass(frozen=True)
class Found:
    """A layer that a key speaks of: row, number of its block, and which of the row's layers (None: all, joined)."""

    row: Row
    block: str
    part: int | None


@dataclass(kw_only=True, eq=False)
class TableDialect:
    """A `Dialect` by table.

    Attributes:
        spellings: the first is written (of ours, the first that fits); all are read.
        down, up, magnitude: endings that are written; those of others are read, too.
        own_alpha: alpha is a tensor of its own; else the scale is folded into B.
        told_by_alpha: another dialect of the family differs only in having no alpha.
        plain: of the readers those that pass over DoRA's lengths.
        dead: pattern of layer names, `#` for the last block's number -> why nothing reads what such a layer puts out.
        of_magnitudes: what a program makes of DoRA otherwise than training did.
        of_layers: pattern of layer names -> what a program makes of them otherwise.
    """

    name: str
    readers: tuple[str, ...]
    place: str
    example: str = ""
    rows: tuple[Row, ...]
    spellings: tuple[Spelling, ...]
    down: str = "lora_A.weight"
    up: str = "lora_B.weight"
    magnitude: str = "lora_magnitude_vector"
    own_alpha: bool = False
    told_by_alpha: bool = False
    plain: tuple[str, ...] = ()
    dead: Mapping[str, str] = field(default_factory=dict)
    of_magnitudes: str = ""
    of_layers: Mapping[str, str] = field(default_factory=dict)

    @property
    def folders(self) -> set[str]:
        """What stands before `base_model.` in its names: in peft's dialect the folder in the folder, of a second network."""
        parts = (spelling.prefix.partition("base_model.") for spelling in self.spellings)
        return {before.removesuffix(".") for before, found, _ in parts if found and before}

    def write(self, state: LowRankState) -> dict[str, Tensor]:
        """The tensors of a file, float32.

        Raises:
            ConfigError: a layer that this dialect has no name for, or magnitudes of some layers where it needs all.
        """
        self._check_magnitudes(state)
        tensors: dict[str, Tensor] = {}
        for row, block, parts in self._gathered(state):
            if not self.spellings[0].original:
                for pattern, part in zip(row.layers, parts, strict=True):
                    if part is not None:
                        tensors |= self._tensors(self._spelled(pattern.replace("#", block)), part)
                continue
            name = row.original.replace("#", block)
            whole = parts[0] if len(parts) == 1 else stacked(parts, what=name)
            assert whole is not None
            tensors |= self._tensors(self.spellings[0].spell(name), halves_swapped(whole) if row.swapped else whole)
        return tensors

    def read(self, tensors: Mapping[str, Tensor]) -> dict[str, LowRank]:
        """The additions of a file, float32.

        Raises:
            DataError: keys that belong to no layer, half a pair, a layer twice, or another kind of addition.
        """
        refuse_other_kinds(tensors)
        state: dict[str, LowRank] = {}
        for found, kinds in self._sorted(tensors).items():
            name = found.row.original.replace("#", found.block)
            addition = _addition(kinds, tensors, what=name)
            layers = [layer.replace("#", found.block) for layer in found.row.layers]
            parts: list[LowRank | None] = [addition]
            if found.part is not None:
                layers = [layers[found.part]]
            else:
                addition = halves_swapped(addition) if found.row.swapped else addition
                parts = [addition] if len(layers) == 1 else unstacked(addition, len(layers), what=name)
            if twice := [layer for layer in layers if layer in state]:
                raise DataError(f"{listed(twice)} are here twice, under two names", do="keep one of them")
            state |= {layer: part for layer, part in zip(layers, parts, strict=True) if part is not None}
        return state

    def matches(self, names: Iterable[str]) -> bool:
        """Whether every layer that these keys speak of is one of this dialect and family."""
        names = list(names)
        stems = {apart[0] for name in names if (apart := taken_apart(name)) and apart[1] in (DOWN, UP)}
        if self.told_by_alpha and not any(name.endswith((".alpha", ".dora_scale")) for name in names):
            return False
        return bool(stems) and all(self._find(stem) is not None for stem in stems)

    def readers_of(self, state: LowRankState) -> tuple[str, ...]:
        """Of the `readers` those that apply all that these additions have, lengths of DoRA too."""
        long = any(addition.magnitude is not None for addition in state.values())
        return tuple(reader for reader in self.readers if not (long and reader in self.plain))

    def unread(self, names: Collection[str]) -> dict[str, str]:
        """Of a network's layers those that change nothing that is drawn, and why: an addition to one learns nothing."""
        found: dict[str, str] = {}
        for pattern, reason in self.dead.items():
            layers = {
                int(match[0]): name for name in names if (match := BLOCK.search(name)) and pattern_of(name) == pattern
            }
            found |= {layers[max(layers)]: reason} if layers else {}
        return found

    def notes(self, state: LowRankState) -> list[str]:
        """What programs that read this dialect make otherwise of these additions, or leave out."""
        long = any(addition.magnitude is not None for addition in state.values())
        said = [self.of_magnitudes] if long and self.of_magnitudes else []
        return said + [text for pattern, text in self.of_layers.items() if any(fnmatchcase(n, pattern) for n in state)]

    def _gathered(self, state: LowRankState) -> list[tuple[Row, str, list[LowRank | None]]]:
        """Row by row the additions of its layers, in the order of the table."""
        places = {layer: (row, index) for row in self.rows for index, layer in enumerate(row.layers)}
        found: dict[tuple[Row, str], list[LowRank | None]] = {}
        unknown = []
        for name, addition in state.items():
            place = places.get(pattern_of(name))
            if place is None:
                unknown.append(name)
                continue
            number = match[0] if (match := BLOCK.search(name)) else ""
            found.setdefault((place[0], number), [None] * len(place[0].layers))[place[1]] = addition
        if unknown:
            raise ConfigError(
                f"{self.name} has no names for {len(unknown)} layers: {listed(unknown)}",
                where="export.dialects",
                do="leave these layers out, or write another dialect",
            )
        order = {row: index for index, row in enumerate(self.rows)}
        return sorted(
            ((row, block, parts) for (row, block), parts in found.items()),
            key=lambda item: (int(item[1] or -1), order[item[0]]),
        )

    def _spelled(self, layer: str) -> str:
        return next(s for s in self.spellings if not s.original and layer.startswith(s.of)).spell(layer)

    def _tensors(self, name: str, addition: LowRank) -> dict[str, Tensor]:
        up = addition.up.float()
        tensors = {f"{name}.{self.down}": addition.down.float().contiguous()}
        tensors[f"{name}.{self.up}"] = (up if self.own_alpha else up * addition.scale).contiguous()
        if self.own_alpha:
            tensors[f"{name}.alpha"] = torch.tensor(addition.alpha, dtype=torch.float32)
        if addition.magnitude is not None:
            shape = [-1] + [1] * (addition.down.ndim - 1)  # as the weight; peft's of a linear layer is flat
            if self.magnitude == "lora_magnitude_vector":
                shape = [-1] if addition.down.ndim == 2 else [1, -1] + [1] * (addition.down.ndim - 2)
            tensors[f"{name}.{self.magnitude}"] = addition.magnitude.float().reshape(shape).contiguous()
        return tensors

    def _check_magnitudes(self, state: LowRankState) -> None:
        plain = [name for name, addition in state.items() if addition.magnitude is None]
        if self.magnitude == "lora_magnitude_vector" and 0 < len(plain) < len(state):
            raise ConfigError(
                f"{len(state) - len(plain)} layers have a DoRA magnitude and {len(plain)} have none: {listed(plain)}",
                where="export.dialects",
                why=f"{self.name} switches DoRA on for all layers of a file or for none",
                do="write the dialect kohya or comfyui",
            )

    def _sorted(self, tensors: Mapping[str, Tensor]) -> dict[Found, dict[str, str]]:
        """Layer -> what of it -> key."""
        found: dict[Found, dict[str, str]] = {}
        unknown = []
        for key in tensors:
            apart = taken_apart(key)
            layer = self._find(apart[0]) if apart else None
            if apart is None or layer is None:
                unknown.append(key)
                continue
            kinds = found.setdefault(layer, {})
            if apart[1] in kinds:
                raise DataError(f"'{key}' and '{kinds[apart[1]]}' are the same", do="keep one of them")
            kinds[apart[1]] = key
        halves = [key for kinds in found.values() if not {DOWN, UP} <= kinds.keys() for key in kinds.values()]
        if unknown or halves:
            said = [f"{len(unknown)} keys belong to no layer: {listed(sorted(unknown))}"] if unknown else []
            said += [f"{len(halves)} lack their other half: {listed(sorted(halves))}"] if halves else []
            raise DataError(
                "; ".join(said),
                why="a LoRA of which a part is dropped looks almost right",
                do="check that the file is whole and of this family",
            )
        return found

    def _find(self, stem: str) -> Found | None:
        for spelling, table in self._tables:
            if stem.startswith(spelling.prefix):
                rest = stem[len(spelling.prefix) :]
                place = table.get(BLOCK.sub("#", rest, count=1))
                if place is not None:
                    number = match[0] if (match := BLOCK.search(rest)) else ""
                    return Found(place[0], number, place[1])
        return None

    @cached_property
    def _tables(self) -> list[tuple[Spelling, dict[str, tuple[Row, int | None]]]]:
        """Per spelling: the name without its prefix -> the layer."""
        tables = []
        for spelling in self.spellings:
            bare = replace(spelling, prefix="")
            table: dict[str, tuple[Row, int | None]] = {}
            for row in self.rows:
                if spelling.original:
                    table[bare.spell(row.original)] = row, None
                    continue
                ours = [(index, layer) for index, layer in enumerate(row.layers) if layer.startswith(spelling.of)]
                table |= {bare.spell(layer): (row, index) for index, layer in ours}
            tables.append((spelling, table))
        return tables


def _addition(kinds: Mapping[str, str], tensors: Mapping[str, Tensor], *, what: str) -> LowRank:
    down, up = (tensors[kinds[kind]].float() for kind in (DOWN, UP))
    if down.ndim == 4 and down.shape[2:] == (1, 1):  # a linear layer that was saved as a 1x1 convolution
        down, up = down.flatten(1), up.flatten(1)
    if down.ndim != up.ndim or down.ndim not in (2, 4) or down.shape[0] != up.shape[1] or not down.shape[0]:
        raise DataError(
            f"'{what}': A is {tuple(down.shape)} and B {tuple(up.shape)}, which do not fit together",
            do="check that the file is whole",
        )
    alpha = float(tensors[kinds[ALPHA]]) if ALPHA in kinds else float(down.shape[0])
    magnitude = tensors[kinds[MAGNITUDE]].float() if MAGNITUDE in kinds else None
    if magnitude is not None and magnitude.numel() != up.shape[0]:
        raise DataError(
            f"'{what}': {magnitude.numel()} magnitudes for {up.shape[0]} rows",
            why="DoRA is read by rows of the weight; some files have it by columns",
            do="merge it with the program that made it",
        )
    return LowRank(down, up, alpha, None if magnitude is None else magnitude.flatten())
