"""Small pictures, a small codec and a small text tower for the tests of this room."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from animeflow.catalogue.post import Post, uid_of
from animeflow.core import seed as keyed
from animeflow.core.conditioning import Conditioning
from animeflow.image.bucket import BucketPlan
from animeflow.image.encode import encode_png

PLAN = BucketPlan.explicit(["32x32", "48x32", "32x48"], step=16)
SIZES = [(40, 40), (50, 34), (33, 51), (64, 64), (70, 45)]


def draw(number: int, height: int, width: int) -> np.ndarray:
    """A smooth picture uint8 `[H, W, 3]` that no other number gives."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width] / 40.0
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(0.5, 6, (3, 3))]
    return ((np.stack(waves, -1) + 1) * 127).astype(np.uint8)


def make_posts(root: Path, count: int, *, first: int = 0) -> list[Post]:
    """`count` PNG files under `root` and their posts; every tenth belongs to the validation split."""
    root.mkdir(parents=True, exist_ok=True)
    posts = []
    for number in range(first, first + count):
        height, width = SIZES[number % len(SIZES)]
        data = encode_png(draw(number, height, width))
        digest = hashlib.sha256(data).hexdigest()
        (root / f"{number}.png").write_bytes(data)
        posts.append(
            Post(
                uid=uid_of(digest), sha256=digest, path=f"{number}.png", width=width, height=height, bytes=len(data),
                format="PNG", tags={"general": ["1girl", f"hair_{number % 7}", f"eyes_{number % 5}", "smile", "hat"]},
                captions={"en": f"A girl with hair number {number % 7}."}, rating="general", score=None,
                created_at=None, source="test", source_id=str(number), url=None, origin="drawn_by_program", truth=None,
                split="val" if number % 10 == 9 else "train",
            )
        )  # fmt: skip
    return posts


class ToyCodec:
    """Means over 8x8 pixels: stride 8, three channels."""

    channels, stride = 3, 8

    def __init__(self, fingerprint: str = "codec-1", *, poison: bool = False) -> None:
        self.fingerprint, self.poison, self.encoded = fingerprint, poison, 0

    def to(self, device: torch.device | str) -> ToyCodec:
        return self

    def encode(self, pixels: Tensor) -> Tensor:
        self.encoded += len(pixels)
        latents = F.avg_pool2d(pixels, 8)
        if self.poison:
            latents[0, 0, 0, 0] = torch.nan
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        return F.interpolate(latents, scale_factor=8)


class ToyTower:
    """One vector per word ("words" `[n, 4]`), their sum ("sum" `[4]`) and lengths ("ids" int64 `[n]`); keeps `limit` words."""

    encoders = ("words", "sum")

    def __init__(self, fingerprint: str = "tower-1", *, limit: int = 9) -> None:
        self.fingerprint, self.limit, self.encoded = f"{fingerprint}-{limit}", limit, []

    def to(self, device: torch.device | str) -> ToyTower:
        return self

    def encode(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        self.encoded += captions
        return [self._row(caption.split()[: self.limit]) for caption in captions]

    def _row(self, words: list[str]) -> dict[str, Tensor]:
        vectors = torch.stack([keyed.normal((4,), word) for word in words]) if words else torch.zeros(0, 4)
        ids = torch.tensor([len(word) for word in words], dtype=torch.int64)
        return {"words": vectors, "sum": vectors.sum(0), "ids": ids}

    def collate(
        self, rows: Sequence[Mapping[str, Tensor]], *, drop: Sequence[frozenset[str]] | None = None
    ) -> Conditioning:
        drop = drop or [frozenset()] * len(rows)
        length = max(self.limit, *(len(row["words"]) for row in rows))
        words = [row["words"] * ("words" not in names) for row, names in zip(rows, drop)]
        sums = [row["sum"] * ("sum" not in names) for row, names in zip(rows, drop)]
        padded = [F.pad(part, (0, 0, 0, length - len(part))) for part in words]
        return Conditioning({"words": torch.stack(padded), "sum": torch.stack(sums)})

    def num_tokens(self, caption: str) -> Mapping[str, tuple[int, int]]:
        count = len(caption.split())
        return {"words": (count, min(count, self.limit)), "sum": (count, count)}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder and its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
