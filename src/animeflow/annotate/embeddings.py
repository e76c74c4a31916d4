"""Vectors of pictures, kept beside the catalogue, so that a frozen network looks at each picture once. Knows no label."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..catalogue import beside
from ..core.log import progress
from ..image.picture import Limits
from .encoder import Encoder, Vectors
from .scoring import Scored, _decode, _parts, scores_file

VECTORS = pa.schema([("uid", pa.int64()), ("vector", pa.binary())])
"""`embeddings/<encoder>.parquet`: what an encoder makes of each picture, as float16; the file's metadata has its version."""

COMMIT = 2048  # pictures between two writes of what is new


def embeddings_file(folder: Path, encoder: str) -> Path:
    """Of an encoder, beside the catalogue. Raises ConfigError for a name that would be a path."""
    return folder / "embeddings" / scores_file(folder, encoder).name


def embed_all(
    folder: Path,
    pictures: Iterable[tuple[int, Path]],
    encoder: Encoder,
    *,
    batch: int = 8,
    threads: int = 2,
    limits: Limits | None = None,
) -> Scored:
    """Look at every picture that the table of this encoder and version does not have.

    Args:
        folder: of the catalogue. pictures: uid and file, in any order.
    """
    file, about = embeddings_file(folder, encoder.name), {"encoder": encoder.name, "version": encoder.version}
    if beside.told(file).get("version", encoder.version) != encoder.version:
        beside.forget(file)
    every = list(pictures)
    known = set(beside.uids(file).tolist())
    todo = [item for item in every if item[0] not in known]
    result, rows = Scored(known=len(every) - len(todo)), list[dict[str, object]]()
    with progress(f"look through {encoder.name}", len(todo)) as advance, ThreadPoolExecutor(threads) as pool:
        for part in _parts(todo, batch):
            decoded = list(pool.map(lambda item: _decode(item[1], limits), part))
            for reason in (each for each in decoded if isinstance(each, str)):
                result.refused[reason] = result.refused.get(reason, 0) + 1
            whole = [(uid, each) for (uid, _), each in zip(part, decoded, strict=True) if not isinstance(each, str)]
            if whole:
                vectors = encoder.encode([pixels for _, pixels in whole]).clip(-65504, 65504).astype("<f2")
                rows += [{"uid": uid, "vector": each.tobytes()} for (uid, _), each in zip(whole, vectors, strict=True)]
            result.asked += len(whole)
            advance(len(part))
            if len(rows) >= COMMIT:
                beside.append(file, VECTORS, rows, about=about)
                rows = []
    beside.put(file, VECTORS, rows, about=about)
    return result


def vectors(folder: Path, encoder: str) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """uids and their vectors `[N, D]`, a group at a time and in order."""
    for table in beside.tables(embeddings_file(folder, encoder), VECTORS):
        if len(table):
            rows = b"".join(table["vector"].to_pylist())
            yield table["uid"].to_numpy(), np.frombuffer(rows, "<f2").reshape(len(table), -1).astype(np.float32)


def vectors_of(folder: Path, encoder: str, uids: Collection[int]) -> dict[int, NDArray[np.float32]]:
    """Those of some pictures; what could not be read has none."""
    wanted, kept = np.array(sorted(uids), np.int64), dict[int, NDArray[np.float32]]()
    for group, found in vectors(folder, encoder):
        here = np.isin(group, wanted)
        kept |= zip(group[here].tolist(), found[here], strict=True)
    return kept
