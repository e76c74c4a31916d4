"""How long a query takes over a catalogue of millions of rows: `python benchmarks/filter_rows.py --rows 4000000`.

Makes a catalogue of drawn facts in the schema of ours (about 30 tags a post, names and counts as uneven as a booru's), decisions,
groups and scores beside it, and times every query from a fresh process's first line to its counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from animeflow.catalogue.post import ORIGINS, SCHEMA
from animeflow.catalogue.rows import ROWS_PER_GROUP
from animeflow.text.tags import RATINGS

LISTS = {
    "general": (25, 20000),
    "character": (1.2, 30000),
    "copyright": (1.1, 5000),
    "artist": (1.0, 60000),
    "meta": (2.0, 200),
}
QUERIES = {
    "open": {},
    "sizes": {"rules": [{"name": "tiny", "drop": "width * height < 65536", "why": "w"}]},
    "one tag": {"rules": [{"name": "t", "drop": "list_contains(tags.general, 'general_17')", "why": "w"}]},
    "any of three tags": {
        "rules": [{"name": "t", "drop": "tags.general && ['general_17', 'general_3', 'general_900']", "why": "w"}]
    },
    "every kind of tag": {
        "rules": [
            {"name": f"t_{kind}", "drop": f"list_contains(tags.{kind}, '{kind}_5')", "why": "w"} for kind in LISTS
        ]
    },
    "pattern over all tags": {
        "rules": [{"name": "t", "drop": "len(list_filter(tags.general, lambda x: x like '%_99')) > 0", "why": "w"}]
    },
    "paths and dates": {
        "rules": [{"name": "p", "drop": "path like '%7.png' and created_at < '2015'", "why": "w"}]
    },
    "score": {
        "rules": [
            {"name": "s", "drop": "score('tagger', 'watermark') > 0.95", "why": "w",
             "approved_by": {"who": "x", "date": "2026-11-21", "looked_at": 1}}
        ]
    },
    "all of it": {
        "groups": "best", "decisions": "rejected", "slice": "0/3",
        "provenance": {"ai": "forbid", "ai_assisted": {"cap": 0.05}, "unknown": {"cap": 0.2}},
        "rules": [
            {"name": "tiny", "drop": "width * height < 65536", "why": "w"},
            {"name": "comic", "drop": "list_contains(tags.general, 'general_40')", "why": "w"},
            {"name": "kept", "keep": "review = 'keep'", "why": "w"},
            {"name": "old", "drop": "created_at < '2008'", "why": "w"},
        ],
    },
}  # fmt: skip


def make(folder: Path, rows: int) -> None:
    """The catalogue and what lies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    uids = rng.permutation(np.unique(rng.integers(0, 2**63, int(rows * 1.001), dtype=np.int64)))[:rows]
    with pq.ParquetWriter(folder / "catalogue.parquet", SCHEMA, compression="zstd") as writer:
        for start in range(0, rows, ROWS_PER_GROUP):
            writer.write_table(_table(rng, uids[start : start + ROWS_PER_GROUP], start))
    in_groups = uids[: rows // 10 * 2].reshape(-1, 2)
    groups = {"uid": in_groups.reshape(-1), "group": in_groups[:, 0].repeat(2)}
    groups |= {"kind": ["duplicate"] * in_groups.size, "relation": ["best", "resized"] * len(in_groups)}
    pq.write_table(pa.table(groups | {"score": np.ones(in_groups.size, np.float32)}), folder / "groups.parquet")
    (folder / "scores").mkdir(exist_ok=True)
    told = {"uid": np.sort(uids), "name": pa.array(["watermark"] * rows), "score": rng.random(rows, np.float32)}
    pq.write_table(pa.table(told), folder / "scores" / "tagger.parquet", compression="zstd")
    with open(folder / "decisions.jsonl", "w") as log:
        for seq, uid in enumerate(uids[: rows // 40].tolist(), 1):
            event = {"seq": seq, "ts": f"2026-11-21T00:00:00.{seq % 10**6:06}Z", "reviewer": "ana", "old": "none"}
            event |= {"sha256": f"{uid << 1:016x}" + "0" * 48, "new": ("keep", "reject")[seq % 5 == 0], "reason": ""}
            log.write(json.dumps(event | {"dwell_ms": 300, "batch": None, "tool_version": "0"}) + "\n")


def _table(rng: np.random.Generator, uids: np.ndarray, start: int) -> pa.Table:
    count = len(uids)
    columns = {
        "uid": uids,
        "sha256": [f"{uid << 1:016x}" + "0" * 48 for uid in uids.tolist()],
        "path": [f"pictures/{number // 1000:05}/{number}.png" for number in range(start, start + count)],
        "width": rng.integers(200, 4000, count, dtype=np.int32),
        "height": rng.integers(200, 4000, count, dtype=np.int32),
        "bytes": rng.integers(10**5, 10**7, count),
        "format": np.array(["JPEG", "PNG", "WEBP"])[rng.integers(0, 3, count)],
        "tags": pa.StructArray.from_arrays([_lists(rng, count, kind, *size) for kind, size in LISTS.items()], list(LISTS)),
        "rating": np.array(RATINGS)[rng.integers(0, 4, count)],
        "score": rng.integers(-5, 500, count),
        "created_at": [f"{year}-05-05T00:00:00Z" for year in rng.integers(2005, 2027, count)],
        "source": ["danbooru"] * count,
        "source_id": [str(number) for number in range(start, start + count)],
        "url": [f"https://example.org/posts/{number}" for number in range(start, start + count)],
        "origin": np.array(ORIGINS)[rng.choice(5, count, p=[0.6, 0.05, 0.05, 0.0, 0.3])],
        "split": ["train"] * count,
        "digest": [f"{uid:016x}" for uid in rng.integers(0, 2**62, count).tolist()],
    }  # fmt: skip
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns and field.name != "tags"
        else columns["tags"] if field.name == "tags" else pa.nulls(count, field.type)
        for field in SCHEMA
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _lists(rng: np.random.Generator, count: int, kind: str, mean: float, names: int) -> pa.ListArray:
    """Lists of names whose counts fall as 1 / rank, as tags' do."""
    lengths = rng.poisson(mean, count)
    places = np.minimum(np.exp(rng.random(int(lengths.sum())) * np.log(names)).astype(np.int64), names - 1)
    words = pa.array([f"{kind}_{number}" for number in range(names)])
    return pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), words.take(pa.array(places))
    )


def one(folder: Path, name: str) -> None:
    """Run a query here and print its numbers."""
    begun = time.perf_counter()
    from animeflow.curate.query import Query
    from animeflow.curate.selection import select

    selection = select(folder, Query.from_config({"name": "measured"} | QUERIES[name]))
    seconds, counts = time.perf_counter() - begun, selection.counts
    assert sum(sum(each.values()) for each in counts.values()) == selection.total
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = {"cpu": used.ru_utime + used.ru_stime, "gib": used.ru_maxrss / 2**20}
    print(json.dumps(facts | {"query": name, "seconds": seconds, "kept": len(selection), "total": selection.total}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/filter_rows/catalogue"))
    parser.add_argument("--query", choices=list(QUERIES), help="Only this one, in this process.")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.query:
        one(options.folder, options.query)
        return
    if not (options.folder / "decisions.jsonl").exists():
        begun = time.perf_counter()
        make(options.folder, options.rows)
        print(f"made {options.rows:,} rows in {time.perf_counter() - begun:.0f} s")
    print(f"{(options.folder / 'catalogue.parquet').stat().st_size / 2**20:,.0f} MiB")
    print(
        "| query | seconds (best, median, worst) | CPU seconds, best | peak memory GiB | kept |\n|---|---|---|---|---|"
    )
    for name in QUERIES:
        words = [sys.executable, __file__, "--folder", str(options.folder), "--query", name]
        found = [json.loads(subprocess.check_output(words)) for _ in range(options.rounds)]
        seconds = sorted(each["seconds"] for each in found)
        told = f"{seconds[0]:.2f}, {seconds[len(seconds) // 2]:.2f}, {seconds[-1]:.2f}"
        cpu = min(each["cpu"] for each in found)
        print(
            f"| {name} | {told} | {cpu:.1f} | {max(each['gib'] for each in found):.2f} | {found[0]['kept']:,} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
