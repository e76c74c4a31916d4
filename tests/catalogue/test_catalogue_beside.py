"""Tables beside the catalogue and the cache of verdicts: what goes in comes out, however it was divided and when a run stops."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from animeflow.catalogue import beside, check, looks
from animeflow.catalogue import ingest as module
from animeflow.catalogue.check import Checked
from animeflow.catalogue.ingest import IngestReport, ingest
from animeflow.catalogue.rows import ROWS_PER_GROUP
from animeflow.catalogue.seen import Seen
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.table import Catalogue
from animeflow.image.evidence import screen
from animeflow.image.picture import Limits


def take(pictures: Path) -> IngestReport:
    return ingest(Catalogue(pictures.parent / "set"), FolderSource(pictures), workers=0)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(5):
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


def tables(pictures: Path) -> list[bytes]:
    return [(pictures.parent / "set" / name).read_bytes() for name in ("prints.parquet", "scores/screen.parquet")]


def test_rows_are_merged_group_by_group_as_if_they_had_come_at_once(tmp_path: Path):
    draw = np.random.default_rng(0)
    wanted: dict[int, bytes] = {}
    file = tmp_path / "prints.parquet"
    for part in range(4):
        new = {int(uid): b"%d %d" % (part, uid) for uid in draw.integers(0, 30_000, 9_000)}
        wanted |= new
        assert beside.put(file, beside.PRINTS, [{"uid": uid, "print": value} for uid, value in new.items()])
    found = beside.read(file, beside.PRINTS)
    assert list(zip(*(column.to_pylist() for column in found.columns), strict=True)) == sorted(wanted.items())
    assert pq.ParquetFile(file).num_row_groups == -(-len(wanted) // ROWS_PER_GROUP) > 1
    assert beside.uids(file).tolist() == sorted(wanted)
    beside.put(tmp_path / "whole", beside.PRINTS, [{"uid": uid, "print": value} for uid, value in wanted.items()])
    assert (tmp_path / "whole").read_bytes() == file.read_bytes()


def test_another_version_that_says_the_same_is_written_down(tmp_path: Path):
    file, rows = tmp_path / "tool.parquet", [{"uid": 1, "name": "a", "score": 0.5}]
    assert beside.put(file, beside.SCORES, rows, about={"version": "1"})
    assert not beside.put(file, beside.SCORES, rows, about={"version": "1"})
    assert beside.put(file, beside.SCORES, rows, about={"version": "2"})
    assert (pq.read_schema(file).metadata or {})[b"version"] == b"2"


def test_verdicts_come_back_until_the_file_or_any_rule_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = [tmp_path / name for name in "cab"]
    verdicts = {}
    for number, file in enumerate(files):
        file.write_bytes(bytes(number + 1))
        verdicts[file.name] = Checked(
            f"{number:064x}", number + 1, os.stat(file).st_mtime_ns, 8, 9, "PNG", ("note",), None, "", b"print",
            ("certain ai chunk ComfyUI",), (("tiled", 0.25),),
        )  # fmt: skip
    cache = tmp_path / "seen.sqlite"
    for part in (files[:2], files[1:]):  # one twice
        seen = Seen(cache, Limits())
        for file in part:
            seen.put(file.name, verdicts[file.name])
        assert all(seen.get(file.name, file) == verdicts[file.name] for file in part)
        seen.save()
        assert all(seen.get(file.name, file) == verdicts[file.name] for file in part)
    seen = Seen(cache, Limits())
    assert all(seen.get(file.name, file) == verdicts[file.name] for file in files)
    assert sqlite3.connect(cache).execute("select count(*) from seen").fetchone() == (3,)

    changed = dataclasses.replace(verdicts["a"], bytes=4, reason="truncated")
    files[1].write_bytes(bytes(4))
    assert seen.get("a", files[1]) is None
    seen.put("a", dataclasses.replace(changed, mtime_ns=os.stat(files[1]).st_mtime_ns))
    assert seen.get("a", files[1]) is not None
    assert Seen(cache, Limits(max_pixels=7)).get("b", files[2]) is None
    monkeypatch.setattr(screen, "VERSION", screen.VERSION + 1)
    assert Seen(cache, Limits()).get("b", files[2]) is None


def test_an_older_or_broken_cache_is_an_empty_one(pictures: Path):
    take(pictures)
    cache = pictures.parent / "set" / "seen.sqlite"
    database = sqlite3.connect(cache)
    database.execute("alter table seen drop column signs")
    database.close()
    assert take(pictures).decoded == 5
    cache.write_bytes(b"no database")
    assert take(pictures).decoded == 5
    assert take(pictures).decoded == 0


def test_the_cache_of_earlier_versions_is_taken_over(pictures: Path):
    """`seen.parquet` as it was written before, whole, without columns that came later, and broken."""
    take(pictures)
    cache, older = pictures.parent / "set" / "seen.sqlite", pictures.parent / "set" / "seen.parquet"
    names = [field.name for field in dataclasses.fields(Checked)]
    database = sqlite3.connect(cache)
    rows = [dict(zip(["path", "rules", *names], row, strict=True)) for row in database.execute(
        f"select path, rules, {', '.join(names)} from seen")]  # fmt: skip
    database.close()
    lists = {
        "notes": pa.list_(pa.string()),
        "signs": pa.list_(pa.string()),
        "measures": pa.map_(pa.string(), pa.float64()),
    }
    for row in rows:
        row |= {name: json.loads(row[name]) for name in lists}
        row["measures"] = [tuple(pair) for pair in row["measures"]]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table = pa.table({name: pa.array(column, lists.get(name)) for name, column in columns.items()})
    for file, decoded in ((table, 0), (table.drop_columns(["print", "signs", "measures", "rules"]), 5), (None, 5)):
        cache.unlink()
        if file is None:
            older.write_bytes(b"no parquet")
        else:
            pq.write_table(file, older, compression="zstd")
        wanted = tables(pictures)
        assert take(pictures).decoded == decoded and tables(pictures) == wanted and not older.exists()
    assert take(pictures).decoded == 0


def test_looks_do_not_depend_on_how_often_they_are_saved(pictures: Path, monkeypatch: pytest.MonkeyPatch):
    take(pictures)
    wanted = tables(pictures)
    for name in ("prints.parquet", "scores/screen.parquet"):
        (pictures.parent / "set" / name).unlink()
    assert take(pictures).decoded == 0 and tables(pictures) == wanted  # out of the cache
    for file in [*(pictures.parent / "set").rglob("*.parquet"), pictures.parent / "set" / "seen.sqlite"]:
        file.unlink()
    monkeypatch.setattr(module, "WINDOW", 1)
    monkeypatch.setattr(looks, "MOST", 2)
    assert take(pictures).decoded == 5 and tables(pictures) == wanted


@pytest.mark.parametrize("died", ["prints.parquet", "screen.parquet"])
@pytest.mark.parametrize("before", [False, True], ids=["new", "screened_before"])
def test_no_look_is_lost_where_a_run_was_stopped_between_two_files(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, died: str, before: bool
):
    if before:
        take(pictures)
    written = beside.append

    def append(file: Path, *rest: object, **more: object) -> None:
        if file.name == died:
            raise KeyboardInterrupt
        written(file, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(screen, "VERSION", screen.VERSION + 1)
    monkeypatch.setattr(check, "measures", lambda picture: (("tiled", 0.75),))
    with monkeypatch.context() as patch:
        patch.setattr(beside, "append", append)
        with pytest.raises(KeyboardInterrupt):
            take(pictures)
    take(pictures)
    folder = pictures.parent / "set"
    assert len(beside.uids(folder / "prints.parquet")) == 5
    assert beside.read(folder / "scores" / "screen.parquet", beside.SCORES)["score"].to_pylist() == [0.75] * 5
