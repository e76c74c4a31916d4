"""Pictures to cached latents, bucket by bucket. Knows a codec by its protocol; knows no text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..core import files
from ..core.errors import DataError
from ..image.decode import decode
from ..model.protocol import Codec
from .ahead import ahead
from .manifest import key
from .prepare import pixels_hash
from .reader import ShardSet
from .store import StoreWriter

PREPROCESSING = "uint8 RGB / 127.5 - 1; mode; bfloat16; v1"
"""What happens between the pixels of a sample and its cached latent. Part of every address: another way, another entry."""


def latent_address(pixels: str, codec: Codec) -> str:
    """Address of the latent of the picture whose pixels hash to `pixels`."""
    return files.address(pixels=pixels, codec=codec.fingerprint, preprocessing=PREPROCESSING)


def to_model(pixels_HWC: np.ndarray) -> Tensor:
    """uint8 RGB `[H, W, 3]` -> float32 `[3, H, W]` in [-1, 1]."""
    return torch.from_numpy(pixels_HWC.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1


def encode_latents(
    shards: ShardSet,
    uids: Sequence[int],
    codec: Codec,
    writer: StoreWriter,
    *,
    batch_size: int,
    device: torch.device | str,
    threads: int,
    advance: Callable[[int], None],
) -> tuple[int, dict[int, str]]:
    """Encode the pictures `uids` into `writer`: (bytes written, uid -> reason of those that have no usable latent)."""
    written, rejected = 0, {}
    ordered = sorted(uids, key=lambda uid: (shards.bucket_of(uid), uid))
    with ThreadPoolExecutor(threads) as pool:
        pictures = ahead(pool, lambda uid: (uid, _pixels(shards, uid)), ordered, count=4 * batch_size)
        for part in _batches(pictures, batch_size):
            with torch.no_grad():
                latents = codec.encode(torch.stack([to_model(pixels) for _, pixels in part]).to(device))
                latents = latents.to("cpu", torch.bfloat16)
            for (uid, _), latent in zip(part, latents):
                if bool(torch.isfinite(latent).all()):
                    written += writer.add(latent_address(shards.pixels_of(uid), codec), {"": latent})
                else:
                    rejected[uid] = "latent_not_finite"
            advance(len(part))
    return written, rejected


def _pixels(shards: ShardSet, uid: int) -> np.ndarray:
    pixels = decode(shards.sample(uid).png).pixels
    if pixels_hash(pixels) != shards.pixels_of(uid):
        raise DataError(f"picture {key(uid)} decodes to other pixels than were written", where=str(shards.folder))
    return pixels


def _batches(pictures: Iterable[tuple[int, np.ndarray]], size: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Up to `size` pictures of one shape."""
    batch: list[tuple[int, np.ndarray]] = []
    for uid, pixels in pictures:
        if batch and (len(batch) == size or batch[0][1].shape != pixels.shape):
            yield batch
            batch = []
        batch.append((uid, pixels))
    if batch:
        yield batch
