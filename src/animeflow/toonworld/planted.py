"""Pictures that a set should not have, put among those of a drawn folder: copies, versions, machine-made ones, watermarks.

What a screen finds can then be counted against what is known to be there. Knows drawings and files; knows no screen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from animeflow.core.errors import DataError
from animeflow.core.files import write_text
from animeflow.toonworld import describe, variants
from animeflow.toonworld.brush import Pixels
from animeflow.toonworld.dataset import World, encode_png
from animeflow.toonworld.draw import draw
from animeflow.toonworld.words import ATTRIBUTES
from animeflow.toonworld.world import Scene, generator

NAME, FOLDER = "planted.jsonl", "planted"
COPIES = ("copy", "repacked", "jpeg", "resize", "crop")
KINDS = (*COPIES, "variant", "generated", "watermarked", "mirrored")
ALONE = ("generated", "watermarked")  # pictures of their own, made of no other one
ELSEWHERE = 50_000_000  # indices of scenes that no folder of a sane size has drawn


@dataclass(frozen=True)
class Plant:
    """One picture that was put there.

    Attributes:
        file: name inside the folder.
        kind: copy (same bytes), repacked (same pixels), jpeg, resize, crop, mirrored; variant (the same drawing with another
            face); generated (with the text that a generator leaves); watermarked (a word tiled over it).
        of: the file of which it is a copy or version, None for a picture of its own.
    """

    file: str
    kind: str
    of: str | None
    scene: Scene

    def to_dict(self) -> dict[str, Any]:
        """A line as in truth.jsonl, and what was planted."""
        tags, captions = describe.tags(self.scene), describe.captions(self.scene)
        return {
            "file": self.file, "index": None, "tags": tags, "captions": captions, "scene": self.scene.to_dict(),
            "planted": {"kind": self.kind, "of": self.of},
        }  # fmt: skip


def plant(folder: str | Path, world: World, *, count: int, each: int) -> list[Plant]:
    """Put `each` pictures of every kind into `folder/planted`, and write `planted.jsonl`; the same settings give the same bytes.

    Copies and versions are made of the folder's pictures 0 to `count - 1`. What was planted there before and is not now goes.

    Raises:
        DataError: the folder has fewer pictures than are to be copied.
    """
    folder, made_of = Path(folder), [kind for kind in KINDS if kind not in ALONE]
    if each * len(made_of) > count:
        raise DataError(
            f"{each} pictures of {len(made_of)} kinds cannot be copied from {count}",
            where="toonworld.planted",
            do="plant fewer",
        )
    originals = generator("planted", world.seed).permutation(count)[: each * len(made_of)].tolist()
    plants = []
    for number, kind in enumerate(KINDS):
        for k in range(each):
            own = kind in ALONE
            index = ELSEWHERE + number * each + k if own else originals[made_of.index(kind) * each + k]
            made, data = _make(world, index, kind, k)
            _write(folder / made.file, data)
            plants.append(made)
    kept = {made.file for made in plants}
    for file in (folder / FOLDER).glob("*"):
        if f"{FOLDER}/{file.name}" not in kept:
            file.unlink()
    lines = (json.dumps(made.to_dict(), ensure_ascii=False, sort_keys=True) for made in plants)
    write_text(folder / NAME, "".join(f"{line}\n" for line in lines))
    return plants


def read_planted(folder: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of `planted.jsonl`; nothing where nothing was planted."""
    file = Path(folder) / NAME
    if file.is_file():
        yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())


def _write(path: Path, data: bytes) -> None:
    """Renamed but not flushed, as the folder's other pictures: the same call makes it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _make(world: World, index: int, kind: str, k: int) -> tuple[Plant, bytes]:
    scene, pixels = world.scene(index), world.drawing(index).pixels
    source, suffix = f"{index:07d}.png", "jpg" if kind == "jpeg" else "png"
    strength = (0.2, 0.5, 0.8)[k % 3]
    if kind == "copy":
        data = encode_png(pixels)
    elif kind == "repacked":
        data = encode_png(pixels, compression=9)
    elif kind == "jpeg":
        data = _jpeg(pixels, quality=(90, 80, 70)[k % 3])
    elif kind in ("resize", "crop"):
        data = encode_png(variants.near_duplicate(pixels, kind, strength=strength))
    elif kind == "mirrored":
        data = encode_png(pixels[:, ::-1].copy())
    elif kind == "variant":
        faces = [face for face in ATTRIBUTES["expression"] if face != scene.figures[0].expression]
        scene = scene.replace("expression", faces[k % len(faces)])
        data = encode_png(draw(scene, *pixels.shape[:2]).pixels)
    elif kind == "generated":
        made, text = variants.generator_like(pixels, seed=index)
        data = variants.embed_text(encode_png(made), text)
    else:
        data = encode_png(variants.watermarked(pixels, "(c)", opacity=0.5))
    return Plant(f"{FOLDER}/{kind}_{k:03d}.{suffix}", kind, None if kind in ALONE else source, scene), data


def _jpeg(pixels: Pixels, *, quality: int) -> bytes:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"cannot encode pixels of shape {pixels.shape} as JPEG")
    return data.tobytes()
