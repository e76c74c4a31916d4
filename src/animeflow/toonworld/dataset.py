"""A folder of drawn pictures with their truth: PNG files, `truth.jsonl`, `manifest.json`. Knows files; knows no catalogue.

The folder is a pure function of its settings. What is there is kept, what is missing is drawn, so any interruption heals.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from animeflow.core.errors import ConfigError, DataError
from animeflow.core.files import read_json, sha256, write_json, write_text
from animeflow.core.log import progress
from animeflow.toonworld import describe
from animeflow.toonworld.brush import Pixels
from animeflow.toonworld.draw import Drawing, draw
from animeflow.toonworld.official import TAG, is_official
from animeflow.toonworld.world import (
    DEFAULT_COUNT_WEIGHTS,
    HeldOut,
    Scene,
    generator,
    guest,
    sample_guest_scene,
    sample_scene,
)

_END_OF_PNG = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class World:
    """The settings that decide every picture. `sizes` are (height, width); each picture draws one by lot.

    `held_out_share` and `held_out_salt` are the `HeldOut` rule of training; a share of 0 holds nothing out. With a `guest`,
    every picture shows her alone, and the rule, the share of the cast and the numbers of figures have no say. `official` tags
    what a series' own artist drew of its cast as official art.
    """

    seed: int = 0
    sizes: Sequence[tuple[int, int]] = ((128, 128),)
    held_out_share: float = 0.15
    held_out_salt: str = "toonworld"
    named_share: float = 0.3
    count_weights: Mapping[int, float] = field(default_factory=lambda: dict(DEFAULT_COUNT_WEIGHTS))
    guest: str | None = None
    official: bool = False

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ConfigError("toonworld needs at least one size", do="pass sizes=[(128, 128)]")
        # YAML gives lists, and JSON gives names of numbers.
        object.__setattr__(self, "sizes", tuple((int(h), int(w)) for h, w in self.sizes))
        weights = {int(count): float(weight) for count, weight in self.count_weights.items()}
        object.__setattr__(self, "count_weights", weights)
        if not weights or not set(weights) <= {1, 2, 3} or min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ConfigError(
                f"count_weights {weights} are not weights of 1, 2 and 3 figures", do="use {1: 0.8, 2: 0.2}"
            )
        if self.guest is not None:
            guest(self.guest)

    @property
    def held_out(self) -> HeldOut | None:
        return HeldOut(self.held_out_share, self.held_out_salt) if self.held_out_share > 0 else None

    def scene(self, index: int) -> Scene:
        if self.guest is not None:
            return sample_guest_scene(self.guest, self.seed, index)
        return sample_scene(
            self.seed,
            index,
            held_out=self.held_out,
            named_share=self.named_share,
            count_weights=self.count_weights,
        )

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of picture `index`."""
        return self.sizes[int(generator("size", self.seed, index).integers(len(self.sizes)))]

    def drawing(self, index: int, *, layers: bool = False) -> Drawing:
        return draw(self.scene(index), *self.size(index), layers=layers)

    def settings(self) -> dict[str, Any]:
        """What the manifest remembers, as JSON."""
        settings: dict[str, Any] = {
            "seed": self.seed,
            "sizes": [list(size) for size in self.sizes],
            "held_out_share": self.held_out_share,
            "held_out_salt": self.held_out_salt,
            "named_share": self.named_share,
            "count_weights": {str(count): weight for count, weight in self.count_weights.items()},
        }
        later = {"guest": self.guest, "official": self.official}
        return settings | {name: value for name, value in later.items() if value}


@dataclass(frozen=True)
class Truth:
    """What is known about one file of a data set."""

    index: int
    file: str  # name inside the folder
    height: int
    width: int
    scene: Scene
    tags: dict[str, list[str]]
    captions: dict[str, str]
    identity: dict[str, list[str]]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "scene": self.scene.to_dict()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Truth:
        return cls(**{**value, "scene": Scene.from_dict(value["scene"])})


def truth(world: World, index: int) -> Truth:
    """The truth of picture `index`, without drawing it."""
    scene, (height, width) = world.scene(index), world.size(index)
    tags = describe.tags(scene)
    if world.official and is_official(scene):
        tags["meta"] = [*tags["meta"], TAG]
    words = tags, describe.captions(scene), describe.identity(scene)
    return Truth(index, f"{index:07d}.png", height, width, scene, *words)


def write_dataset(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    sizes: Sequence[tuple[int, int]] = ((128, 128),),
    workers: int = 1,
    start: int = 0,
    held_out_share: float = 0.15,
    held_out_salt: str = "toonworld",
    named_share: float = 0.3,
    count_weights: Mapping[int, float] = DEFAULT_COUNT_WEIGHTS,
    guest: str | None = None,
    official: bool = False,
    sidecars: bool = False,
) -> int:
    """Make pictures `start` to `start + count - 1` exist in `folder`; returns how many had to be drawn.

    Args:
        guest: who is in every picture, alone; None for the ordinary world.
        official: tag official art, see `toonworld.official`.
        sidecars: also write NAME.txt with tags beside every picture, so that the folder is like one that a person tagged.

    Raises:
        DataError: the folder holds a data set with other settings.
    """
    folder = Path(folder)
    world = World(
        seed=seed,
        sizes=tuple(sizes),
        held_out_share=held_out_share,
        held_out_salt=held_out_salt,
        named_share=named_share,
        count_weights=count_weights,
        guest=guest,
        official=official,
    )
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder, world)
    indices = range(start, start + count)
    missing = [index for index in indices if not _whole(folder / f"{index:07d}.png")]
    with progress("toonworld", len(missing)) as advance:
        if workers <= 1 or len(missing) < 64:
            for index in missing:
                _write_picture(folder, world, index)
                advance(1)
        else:
            chunks = [missing[k : k + 64] for k in range(0, len(missing), 64)]
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
                for done in pool.map(partial(_write_pictures, folder, world), chunks):
                    advance(done)
    new = {index: truth(world, index) for index in indices if index not in known}
    if new or not (folder / "manifest.json").exists():
        _write_truth(folder, world, known | new)
    if sidecars:
        for index in indices:
            _write_sidecar(folder / f"{index:07d}.txt", world.scene(index))
    return len(missing)


def read_truth(folder: str | Path) -> list[Truth]:
    """The truth of every picture of a data set, by index."""
    path = Path(folder) / "truth.jsonl"
    if not path.exists():
        raise DataError("no truth.jsonl here", where=str(folder), do="write the data set first")
    return [Truth.from_dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _known(folder: Path, world: World) -> dict[int, Truth]:
    """What an earlier call left, checked to be of the same world."""
    if not (folder / "manifest.json").exists():
        return {}
    settings = read_json(folder / "manifest.json")["world"]
    if settings != world.settings():
        asked = world.settings()
        changed = sorted(key for key in {*asked, *settings} if settings.get(key) != asked.get(key))
        raise DataError(
            f"this folder holds another toonworld (other {', '.join(changed)})",
            where=str(folder),
            why="mixing two worlds would make the truth false",
            do="choose another folder, or delete this one",
        )
    return {fact.index: fact for fact in read_truth(folder)}


def _write_truth(folder: Path, world: World, facts: dict[int, Truth]) -> None:
    lines = [json.dumps(facts[index].to_dict(), ensure_ascii=False, sort_keys=True) for index in sorted(facts)]
    text = "\n".join(lines) + "\n"
    write_text(folder / "truth.jsonl", text)
    manifest = {"world": world.settings(), "pictures": len(facts), "truth_sha256": sha256(text.encode())}
    write_json(folder / "manifest.json", manifest)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _write_pictures(folder: Path, world: World, indices: Sequence[int]) -> int:
    for index in indices:
        _write_picture(folder, world, index)
    return len(indices)


def _write_picture(folder: Path, world: World, index: int) -> None:
    path = folder / f"{index:07d}.png"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Renamed but not flushed: a flush per small file costs more than drawing it, and `_whole` finds what a power cut tore.
    temporary.write_bytes(encode_png(world.drawing(index).pixels))
    os.replace(temporary, path)


def _write_sidecar(path: Path, scene: Scene) -> None:
    """Left alone where there is one: somebody may have edited it."""
    if not path.exists():
        write_text(path, describe.sidecar(scene) + "\n")


def encode_png(pixels: Pixels, *, compression: int = 3) -> bytes:
    """RGB [H, W, 3] or RGBA [H, W, 4] -> PNG bytes."""
    code = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, code), [cv2.IMWRITE_PNG_COMPRESSION, compression])
    if not done:
        raise DataError(f"cannot encode pixels of shape {pixels.shape} as PNG")
    return data.tobytes()


def _whole(path: Path) -> bool:
    """Whether a PNG is there with its end."""
    try:
        with open(path, "rb") as file:
            file.seek(-len(_END_OF_PNG), os.SEEK_END)
            return file.read() == _END_OF_PNG
    except OSError:
        return False
