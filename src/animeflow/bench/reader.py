"""Cached latents from disk into a batch: ours, others' and plain memcpy, on one core in one run. Knows caches; knows no model."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from ..core import files, seed
from ..data import stock
from ..data.fill import stacked
from ..data.index import LATEST, CacheIndex, Row, manifest_path, part_path, write_part
from ..data.store import StoreWriter
from .rounds import Rates, by_turns, median, ratio

log = logging.getLogger(__name__)

Reader = Callable[[], Iterator[Tensor]]
"""Reads all latents once and yields every batch as soon as it is full."""

GOALS = {"times webdataset": 3.0, "times memcpy": 0.3}
"""Of `ours`, hash and all, on local files that the page cache holds."""


def run(config: Mapping[str, Any], *, against: str | None = None, rounds: int = 5) -> dict[str, Any]:
    """Latents of one megapixel, `[16, 128, 128]` in bfloat16 = 512 KiB, in batches of 22."""
    return measure(rounds=rounds)


def measure(
    *,
    count: int = 1100,
    shape: tuple[int, ...] = (16, 128, 128),
    batch: int = 22,
    rounds: int = 5,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Every reader reads `count` latents `rounds` times, by turns; CPU seconds of the process count.

    Args:
        folder: for a temporary folder of about twice the latents' size; the system's place for such by default.
    """
    count = max(count - count % batch, batch)  # whole batches
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="animeflow-bench-", dir=folder) as place:
            work = _Work.make(Path(place), count=count, shape=shape, batch=batch)
            readers = work.readers()
            wanted = _hashes([work.latents])
            same = {name: _hashes(reader()) == wanted for name, (reader, _) in readers.items()}
            load = os.getloadavg()
            log.info("reader: %d latents of %d KiB, %d rounds", count, work.item_bytes // 1024, rounds)
            rates = by_turns({name: partial(_exhaust, reader) for name, (reader, _) in readers.items()}, rounds=rounds)
    finally:
        torch.set_num_threads(threads)
    return {
        "bench": "reader",
        "settings": {
            "latents": count, "shape": list(shape), "dtype": "bfloat16", "batch": batch, "rounds": rounds,
            "clock": "CPU seconds of the process", "page_cache": "warm",
        },
        "load_average": [round(value, 2) for value in load],
        "same_bytes": same,
        "readers": {name: _facts(rates, name, about, work.item_bytes) for name, (_, about) in readers.items()},
        "goals": GOALS,
        "reached": {
            "times webdataset": ratio(rates, "ours", "webdataset") >= GOALS["times webdataset"],
            "times memcpy": ratio(rates, "ours", "memcpy") >= GOALS["times memcpy"],
        },
    }  # fmt: skip


def _exhaust(reader: Reader) -> int:
    return sum(len(batch) for batch in reader())


def _facts(rates: Rates, name: str, about: str, item_bytes: int) -> dict[str, Any]:
    rate = median(rates, name)
    return {
        "about": about,
        "samples_per_s": round(rate, 1),
        "GiB_per_s": round(rate * item_bytes / 2**30, 3),
        "times_memcpy": round(ratio(rates, name, "memcpy"), 3),
        "times_webdataset": round(ratio(rates, name, "webdataset"), 3),
        "rounds": [round(value, 1) for value in rates[name]],
    }


@dataclass(frozen=True)
class _Work:
    """The latents in every form that a reader wants, and one batch that all of them fill."""

    latents: Tensor  # [count, ...], in memory
    index: CacheIndex
    tars: list[str]
    order: tuple[int, ...]  # in which ours and memcpy read, as a shuffled set is read
    out: Tensor  # [batch, ...]

    @classmethod
    def make(cls, folder: Path, *, count: int, shape: tuple[int, ...], batch: int) -> _Work:
        generator = seed.generator("bench", "reader")
        latents = torch.empty(count, *shape, dtype=torch.bfloat16)
        for latent in latents:
            latent.copy_(torch.randn(shape, generator=generator))
        names = [files.address(number=number) for number in range(count)]
        index = _cache(folder / "cache", names, latents)
        tars = stock.write_tars(folder / "tars", zip(names, latents, strict=True))
        order = tuple(torch.randperm(count, generator=generator).tolist())
        return cls(latents, index, tars, order, torch.zeros(batch, *shape, dtype=torch.bfloat16))

    @property
    def item_bytes(self) -> int:
        return self.latents[0].numel() * self.latents.element_size()

    def readers(self) -> dict[str, tuple[Reader, str]]:
        """Name -> (what reads all latents once, what it is)."""
        ways: dict[str, tuple[Reader, str]] = {
            "memcpy": (self._memcpy, "from memory into the batch, shuffled"),
            "ours": (lambda: self._ours(out=self.out), "index, preadv into the batch, xxh3; shuffled"),
            "ours, no hash": (lambda: self._ours(out=self.out, verify=False), "the same without xxh3"),
            "ours, new memory": (self._ours, "a new batch each time, as training without a GPU takes it"),
            "webdataset": (self._webdataset, "stock: raw bytes, frombuffer, copied into the batch; in file order"),
            "safetensors": (self._safetensors, "by name out of our files, copied into the batch; no hash"),
        }
        if torch.cuda.is_available():
            about = "a new page-locked batch each time, as training on a GPU takes it"
            ways["ours, page-locked"] = (lambda: self._ours(pin=True), about)
        return ways

    def _parts(self) -> Iterator[tuple[int, ...]]:
        for start in range(0, len(self.order), len(self.out)):
            yield self.order[start : start + len(self.out)]

    def _memcpy(self) -> Iterator[Tensor]:
        source = _bytes(self.latents)
        return self._copied(source[number] for number in self.order)

    def _ours(self, **options: Any) -> Iterator[Tensor]:
        for part in self._parts():
            yield stacked(self.index.latents, [self.index.latent_address(number) for number in part], **options)

    def _webdataset(self) -> Iterator[Tensor]:
        return self._copied(stock.stream_tars(self.tars))

    def _safetensors(self) -> Iterator[Tensor]:
        named: dict[Path, list[str]] = {}
        for number in self.order:
            address = self.index.latent_address(number)
            entry = self.index.latents.locate(address)
            assert entry is not None, "a cache that was just written here lies in files"
            named.setdefault(entry.path, []).append(address)
        return self._copied(stock.read_by_name(named))

    def _copied(self, items: Iterable[np.ndarray]) -> Iterator[Tensor]:
        rows_BS = _bytes(self.out)
        for number, item in enumerate(items, start=1):
            rows_BS[(number - 1) % len(rows_BS)] = item
            if number % len(rows_BS) == 0:
                yield self.out


def _bytes(tensor: Tensor) -> np.ndarray:
    """`[B, ...]` as uint8 `[B, S]`, sharing memory."""
    return tensor.view(len(tensor), -1).view(torch.uint8).numpy()


def _hashes(batches: Iterable[Tensor]) -> list[int]:
    return sorted(xxhash.xxh3_64_intdigest(row.data) for batch in batches for row in _bytes(batch))


def _cache(folder: Path, names: Sequence[str], latents: Tensor) -> CacheIndex:
    """A finished cache of these latents and no captions."""
    empty = files.address(caption="")
    with StoreWriter(folder / "latents") as writer:
        for name, latent in zip(names, latents, strict=True):
            writer.add(name, {"": latent})
    with StoreWriter(folder / "texts") as writer:
        writer.add(empty, {"none": torch.zeros(1)})
    rows = [Row(number, "1024x1024", "train", name, (), ()) for number, name in enumerate(names)]
    write_part(part_path(folder, "bench", 0, 1), rows, {})
    identity = {"codec": "none", "tower": "none", "variants": 0}
    files.write_json(manifest_path(folder, "bench"), {"world": 1, "identity": identity, "empty": empty})
    files.write_json(folder / LATEST, {"hash": "bench"})
    return CacheIndex(folder)
