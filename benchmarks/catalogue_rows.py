"""What the bookkeeping of a large set costs, without its pictures: `python benchmarks/catalogue_rows.py KIND ROWS [FOLDER]`.

Every kind runs in this process and prints JSON: seconds, rows a second and the most memory that the process had.

    ingest   a source of drawn posts whose files were checked by nobody, twice: all new, then all known
    open     a catalogue of so many rows: opening it, asking for rows in it, and reading it to the end
    dump     JSON lines of so many posts with a thousand files beside them, read to the last candidate
    scores   what a tool says of so many pictures, ten scores each
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from animeflow.annotate import scoring
from animeflow.catalogue import ingest as module
from animeflow.catalogue import seen
from animeflow.catalogue.candidate import Candidate, Facts
from animeflow.catalogue.check import Checked
from animeflow.catalogue.sources.danbooru import DanbooruSource
from animeflow.catalogue.table import Catalogue

PRINT = 1000  # bytes of a fingerprint
FILES = 1000  # that lie beside a dump
ASKED = 2000  # rows that are asked for in an open catalogue


def memory() -> int:
    """The most MiB that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def words(number: int, count: int = 30) -> list[str]:
    """Tags of a post, some very common, most rare."""
    state = number * 2654435761 % 2**32
    found = []
    for place in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        found.append(f"tag_{state % (10 + place * 700)}")
    return list(dict.fromkeys(found))


class Drawn:
    """Candidates without files."""

    name = "drawn"

    def __init__(self, root: Path, rows: int) -> None:
        self.root, self.rows = root, rows

    def __iter__(self) -> Iterator[Candidate]:
        for number in range(self.rows):
            tags = {
                "general": words(number),
                "character": [],
                "copyright": [],
                "artist": [f"artist_{number % 60000}"],
                "meta": [],
            }
            path = self.root / f"{number // 1000:05}" / f"{number:09}.png"
            yield Candidate(path, Facts(tags=tags, rating="general", score=number % 300, source_id=str(number)))


def checked(path: str) -> Checked:
    """The verdict about a file that is not there."""
    digest = hashlib.sha256(path.encode()).digest()
    return Checked(
        digest.hex(), 10**6, 10**18, 1024, 768, "PNG", print=digest * (PRINT // 32), measures=(("tiled", digest[0] / 256),)
    )  # fmt: skip


def ingest(rows: int, folder: Path) -> dict[str, Any]:
    module.check_all = lambda paths, limits, pool: map(checked, paths)  # type: ignore[assignment]
    seen.size_and_time = lambda path: (10**6, 10**18)
    told: dict[str, Any] = {}
    for run in ("new", "known"):
        began, cpu = time.perf_counter(), time.process_time()
        report = module.ingest(Catalogue(folder / "set"), Drawn(folder / "pictures", rows), workers=0)
        assert (report.added, report.known) == ((rows, 0) if run == "new" else (0, rows)), vars(report)
        seconds = time.perf_counter() - began
        told |= {
            f"{run}_seconds": round(seconds, 1),
            f"{run}_rows_per_second": round(rows / seconds),
            f"{run}_mib": memory(),
        }
        told |= {f"{run}_cpu_seconds": round(time.process_time() - cpu, 1)}
    return told | {"disk_mib": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) >> 20}


def open_one(rows: int, folder: Path) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).parent))
    from filter_rows import make

    if not (folder / "catalogue.parquet").exists():
        return {"made": make(folder, rows)}  # a process of its own: it has arrays of its own
    began = time.perf_counter()
    catalogue = Catalogue(folder)
    assert len(catalogue) == rows
    told = {"open_seconds": round(time.perf_counter() - began, 2), "open_mib": memory()}
    began = time.perf_counter()
    found = sum(catalogue.sha_at(f"pictures/{n // 1000:05}/{n}.png") is not None for n in range(0, rows, rows // ASKED))
    assert found >= ASKED
    told |= {"ask_seconds": round(time.perf_counter() - began, 2), "ask_mib": memory()}
    began = time.perf_counter()
    read = sum(len(batch) for batch in catalogue._batches())
    assert read == rows
    return told | {"read_seconds": round(time.perf_counter() - began, 2), "read_mib": memory()}


def dump(rows: int, folder: Path) -> dict[str, Any]:
    (folder / "pictures").mkdir()
    with open(folder / "posts.jsonl", "w") as file:
        for number in range(rows):
            md5 = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
            post = {
                "id": number, "md5": md5, "tag_string": " ".join(words(number)), "tag_string_general": " ".join(words(number)),
                "rating": "g", "score": 5, "created_at": "2024-05-05T00:00:00Z", "file_ext": "png", "image_width": 900,
                "source": f"https://example.org/{md5}", "file_url": f"https://cdn.donmai.us/original/{md5}.png",
            }  # fmt: skip
            file.write(json.dumps(post) + "\n")
            if number % (rows // FILES) == 0:
                (folder / "pictures" / f"{md5}.png").write_bytes(b"")
    began, before = time.perf_counter(), memory()
    source = DanbooruSource(folder / "posts.jsonl", pictures=folder / "pictures")
    length, good = len(source), 0
    for candidate in source:
        good += candidate.reason is None
    seconds = time.perf_counter() - began
    assert (length, good) == (rows, FILES)
    size = (folder / "posts.jsonl").stat().st_size >> 20
    told = {"seconds": round(seconds, 1), "rows_per_second": round(rows / seconds)}
    return told | {"mib_before": before, "mib": memory(), "file_mib": size}


def scores(rows: int, folder: Path) -> dict[str, Any]:
    scoring._decode = lambda file, limits: np.zeros((1, 1, 3), np.uint8)  # type: ignore[assignment]
    names = [f"name_{number}" for number in range(10)]
    uids = np.unique(np.random.default_rng(0).integers(0, 2**62, rows + rows // 100))[:rows]
    pictures = [(uid, Path("none.png")) for uid in np.random.default_rng(1).permutation(uids).tolist()]
    began = time.perf_counter()
    told = scoring.score_all(
        folder, pictures, lambda batch: [dict.fromkeys(names, 0.5)] * len(batch), tool="tool", version="1", batch=256
    )
    assert told.asked == rows
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 1), "rows_per_second": round(rows / seconds), "mib": memory()}


KINDS = {"ingest": ingest, "open": open_one, "dump": dump, "scores": scores}


def main() -> None:
    kind, rows = sys.argv[1], int(sys.argv[2])
    if len(sys.argv) > 3:
        Path(sys.argv[3]).mkdir(parents=True, exist_ok=True)
        told = KINDS[kind](rows, Path(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            told = KINDS[kind](rows, Path(folder))
    print(json.dumps({"kind": kind, "rows": rows} | told))


if __name__ == "__main__":
    main()
