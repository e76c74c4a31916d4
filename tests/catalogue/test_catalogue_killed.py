"""Killed before any of the steps that change what is on disk, in order: the next run makes of it what one run would have made."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from animeflow.catalogue import beside, looks, seen
from animeflow.catalogue import ingest as module
from animeflow.catalogue.check import Checked, check
from animeflow.catalogue.ingest import IngestReport, ingest
from animeflow.catalogue.seen import Seen
from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.table import Catalogue
from animeflow.core.errors import DataError
from animeflow.core.files import sha256_file
from animeflow.image.picture import Limits

TABLES = ("catalogue.parquet", "rejected.jsonl", "manifest.json", "prints.parquet", "scores/screen.parquet")


OLDER = pa.schema(
    [(name, pa.string()) for name in ("path", "rules", "sha256", "format", "reason", "detail")]
    + [(name, pa.int64()) for name in ("bytes", "mtime_ns", "height", "width")]
    + [("notes", pa.list_(pa.string())), ("signs", pa.list_(pa.string())), ("print", pa.binary())]
    + [("measures", pa.map_(pa.string(), pa.float64()))]
)


def blank(**facts: Any) -> Checked:
    return Checked("0" * 64, 1, 1, **facts)


class Killed(BaseException):
    """What comes after it does nothing more to the disk."""


@contextlib.contextmanager
def killed_before(step: int) -> Iterator[Callable[[], bool]]:
    """Of the renames, removals and commits of a database, the one of this number and all later ones do not happen."""
    count = 0

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*words: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count > step:
                raise Killed
            return function(*words, **options)

        return call

    @contextlib.contextmanager
    def transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        with whole(database):
            yield database
            guarded(lambda: None)()

    whole = seen._transaction
    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "unlink", "rmdir"):
            patch.setattr(os, name, guarded(getattr(os, name)))
        patch.setattr(seen, "_transaction", transaction)
        with contextlib.suppress(Killed):
            yield lambda: count > step


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is saved, committed and merged every few pictures; each is decoded once in a test."""
    for where, name, value in (
        (module, "WINDOW", 2), (module, "COMMIT_EVERY", 6), (module, "COMMIT_AT_LEAST_EVERY", 6),
        (looks, "MOST", 3), (seen, "MOST", 3), (beside, "FAN", 2),
    ):  # fmt: skip
        monkeypatch.setattr(where, name, value)
    known = functools.cache(lambda path, changed, limits: check(path, limits))
    monkeypatch.setattr(
        module,
        "check_all",
        lambda paths, limits, pool: [known(path, os.stat(path).st_mtime_ns, limits) for path in paths],
    )


def draw(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        pixels = np.random.default_rng(number % 5).integers(
            0, 256, (24, 24, 3), dtype=np.uint8
        )  # later ones are copies
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (folder / "broken.png").write_bytes(b"no picture, by far")


def run(folder: Path, catalogue: Path) -> IngestReport:
    return ingest(Catalogue(catalogue), FolderSource(folder), workers=0)


def names_in(catalogue: Path) -> list[str]:
    return sorted(p.name for p in catalogue.rglob("*") if p.is_file() and p.suffix != ".tmp")


def bytes_of(catalogue: Path) -> dict[str, bytes]:
    return {name: (catalogue / name).read_bytes() for name in TABLES}


def test_scores_that_were_taken_are_there_whenever_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nobody could say them again at once: five parts, merged by twos, and the whole at the end."""
    monkeypatch.setattr(beside, "FAN", 2)
    step, alive = 0, False
    while not alive:
        file, taken, wanted = tmp_path / f"{step}" / "tool.parquet", 0, dict[int, float]()
        with killed_before(step) as was_killed:
            for taken in range(5):
                told = {uid: taken + uid / 64 for uid in (0, taken + 1, taken + 2)}
                rows = [{"uid": uid, "name": "n", "score": score} for uid, score in told.items()]
                beside.append(file, beside.SCORES, rows, about={"version": "1"})
                wanted |= told
            beside.settle(file, beside.SCORES)
        alive = not was_killed()
        found = {row["uid"]: row["score"] for row in beside.read(file, beside.SCORES).to_pylist()}
        assert found in (wanted, wanted | told), step
        assert beside.told(file).get("version") == ("1" if found else None)
        step += 1
    assert step > 15


@pytest.mark.parametrize("later", [False, True])
def test_killed_before_any_step(tmp_path: Path, small: None, later: bool):
    """Of the first run, and of a later one in which files are new, renamed and gone."""
    pictures, begun = tmp_path / "pictures", tmp_path / "begun"
    draw(pictures, range(5))
    if later:
        run(pictures, begun)
        draw(pictures, range(5, 7))
        (pictures / "01.png").rename(pictures / "a renamed one.png")
        (pictures / "02.png").write_bytes((pictures / "03.png").read_bytes())
    else:
        draw(pictures, range(6))
    whole = tmp_path / "whole"
    if later:
        shutil.copytree(begun, whole)
    run(pictures, whole)
    wanted, step, alive = bytes_of(whole), 0, False
    while not alive:
        once = tmp_path / "once"
        shutil.rmtree(once, ignore_errors=True)
        if later:
            shutil.copytree(begun, once)
        with killed_before(step) as was_killed:
            run(pictures, once)
        alive = not was_killed()
        run(pictures, once)
        assert bytes_of(once) == wanted, step
        assert run(pictures, once).decoded == 0 and bytes_of(once) == wanted
        assert names_in(once) == names_in(whole), step
        step += 1
    assert step > 20


def test_a_cache_of_an_earlier_version_is_taken_over_though_that_was_killed(tmp_path: Path, small: None):
    draw(tmp_path / "pictures", range(6))
    catalogue = tmp_path / "set"
    run(tmp_path / "pictures", catalogue)
    cache, older = catalogue / "seen.sqlite", catalogue / "seen.parquet"
    names = ["path", "rules", *(field.name for field in dataclasses.fields(Checked))]
    with contextlib.closing(sqlite3.connect(cache)) as database:
        rows = [dict(zip(names, row, strict=True)) for row in database.execute(f"select {', '.join(names)} from seen")]
    for row in rows:
        row |= {name: json.loads(row[name]) for name in ("notes", "signs")}
        row["measures"] = [tuple(pair) for pair in json.loads(row["measures"])]
    before, saved = bytes_of(catalogue), pa.Table.from_pylist(rows, OLDER)
    step, alive = 0, False
    while not alive:
        cache.unlink(missing_ok=True)
        pq.write_table(saved, older)
        with killed_before(step) as was_killed:
            Seen(cache, Limits()).close()
        alive = not was_killed()
        assert older.exists() is not alive
        assert run(tmp_path / "pictures", catalogue).decoded == 0, step
        assert bytes_of(catalogue) == before and not older.exists()
        step += 1
    assert step > 1


@pytest.mark.parametrize("writes", [False, True])
def test_a_cache_that_is_damaged_within_begins_anew(tmp_path: Path, writes: bool):
    """Its head is whole, so that it opens; what is asked for, or is to be written, lies in what is not."""
    cache, file = tmp_path / "seen.sqlite", tmp_path / "file"
    file.write_bytes(b".")
    kept = Seen(cache, Limits())
    verdict = dataclasses.replace(blank(print=os.urandom(900)), mtime_ns=os.stat(file).st_mtime_ns)
    for number in range(200):
        kept.put(f"{number}.png", verdict)
    kept.save()
    kept.close()
    data = bytearray(cache.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    cache.write_bytes(data)
    kept = Seen(cache, Limits())
    if writes:
        kept._new = {"5.png": verdict}
        kept.save()
    assert kept.get("5.png", file) is None
    kept.put("6.png", verdict)
    kept.save()
    kept.close()
    assert Seen(cache, Limits()).get("6.png", file) == verdict


def test_a_full_disk_is_told_and_loses_nothing_that_was_saved(tmp_path: Path):
    cache, file = tmp_path / "seen.sqlite", tmp_path / "file"
    file.write_bytes(b".")
    kept, verdict = Seen(cache, Limits()), dataclasses.replace(blank(), mtime_ns=os.stat(file).st_mtime_ns)
    kept.put("before.png", verdict)
    kept.save()
    assert kept._database is not None
    pages = kept._database.execute("pragma page_count").fetchone()[0]
    kept._database.execute(f"pragma max_page_count = {pages}")
    for number in range(2000):
        kept.put(f"{number}.png", dataclasses.replace(verdict, print=os.urandom(900)))
    with pytest.raises(DataError, match="full"):
        kept.save()
    kept._database.execute("pragma max_page_count = 1000000")
    kept.save()
    kept.close()
    again = Seen(cache, Limits())
    assert again.get("before.png", file) == verdict and again.get("1999.png", file) is not None


def test_a_cache_that_may_only_be_read_is_told(tmp_path: Path):
    kept = Seen(tmp_path / "seen.sqlite", Limits())
    kept.put("a.png", blank())
    kept.save()
    assert kept._database is not None
    kept._database.execute("pragma query_only = on")
    kept.put("b.png", blank())
    with pytest.raises(DataError) as caught:
        kept.save()
    assert "readonly" in str(caught.value) and "rights" in str(caught.value)


def test_a_later_verdict_about_a_file_stands_for_the_earlier_one(tmp_path: Path):
    file = tmp_path / "file"
    file.write_bytes(b".")
    early, late = blank(), dataclasses.replace(blank(detail="late"), mtime_ns=os.stat(file).st_mtime_ns)
    for verdict in (early, late):
        kept = Seen(tmp_path / "seen.sqlite", Limits())
        kept.put("a.png", verdict)
        kept.save()
        kept.close()
    assert Seen(tmp_path / "seen.sqlite", Limits()).get("a.png", file) == late


def test_two_processes_that_begin_one_cache_share_it(tmp_path: Path):
    file = tmp_path / "file"
    file.write_bytes(b".")
    verdict = dataclasses.replace(blank(), mtime_ns=os.stat(file).st_mtime_ns)
    both = [Seen(tmp_path / "seen.sqlite", Limits()) for _ in range(2)]
    for number, each in enumerate(both):
        each.put(f"{number}.png", verdict)
        each.put("both.png", verdict)
        each.save()
    with contextlib.closing(sqlite3.connect(tmp_path / "seen.sqlite")) as database:
        database.executescript(seen._SCHEMA)  # the other one found no table, too
        assert database.execute("select count(*) from seen").fetchone() == (3,)
    assert all(each.get(f"{number}.png", file) == verdict for each in both for number in range(2))


def test_of_two_runs_at_once_the_later_is_refused_and_nothing_is_lost(tmp_path: Path):
    draw(tmp_path / "first", range(3))
    draw(tmp_path / "second", range(3, 5))
    slow, other = Catalogue(tmp_path / "set"), Catalogue(tmp_path / "set")
    ingest(other, FolderSource(tmp_path / "second"), workers=0)
    before = {name: sha256_file(tmp_path / "set" / name) for name in TABLES[:3]}
    with pytest.raises(DataError, match="another process"):
        ingest(slow, FolderSource(tmp_path / "first"), workers=0)
    assert {name: sha256_file(tmp_path / "set" / name) for name in TABLES[:3]} == before
    report = run(tmp_path / "first", tmp_path / "set")
    assert (report.decoded, report.added) == (0, 3)
    assert len(Catalogue(tmp_path / "set")) == 5


@pytest.mark.parametrize("removed", TABLES[:3])
def test_a_manifest_that_is_of_other_files_is_written_anew(tmp_path: Path, small: None, removed: str):
    """A run that changes nothing else finds that the one before was killed before its last step, or that a file is gone."""
    draw(tmp_path / "pictures", range(3))
    run(tmp_path / "pictures", tmp_path / "set")
    wanted, before = bytes_of(tmp_path / "set"), (tmp_path / "set" / "manifest.json").read_bytes()
    draw(tmp_path / "pictures", range(3, 5))
    (tmp_path / "pictures" / "text.txt").write_text("1girl")
    run(tmp_path / "pictures", tmp_path / "set")
    assert bytes_of(tmp_path / "set") != wanted
    wanted = bytes_of(tmp_path / "set")
    if removed == "manifest.json":
        (tmp_path / "set" / removed).write_bytes(before)
    else:
        (tmp_path / "set" / removed).unlink()
    run(tmp_path / "pictures", tmp_path / "set")
    assert bytes_of(tmp_path / "set") == wanted
