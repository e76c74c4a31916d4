"""The table of facts is read out of the shards once, however many processes ask for it at the same moment."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from data_toys import PLAN, make_posts

from animeflow.data import facts
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards

READ = facts._read


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    write_shards(make_posts(folder / "p", 6), PLAN, folder / "shards", root=folder / "p")
    return folder / "shards"


def _ask(folder: Path, together) -> None:
    """In a process of its own: notes each reading, and gives the others time to come."""

    def read(shards: ShardSet, *, threads: int):
        (folder.parent / f"read.{os.getpid()}").touch()
        return READ(shards, threads=threads)

    facts._read = read
    found = ShardSet(folder)
    together.wait()
    assert facts.facts_of(found, ["source"], uids=found.uids).num_rows == 6


@pytest.mark.parametrize("writable", [True, False])
def test_of_several_processes_one_reads(shards: Path, writable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for left in [*shards.parent.glob("read.*"), *shards.glob(facts.FILE)]:
        left.unlink()
    if not writable:  # as root all may be written to, so it is said here
        monkeypatch.setattr(facts, "_keep", lambda *_: None)
        monkeypatch.setattr(facts.Lock, "take", _refuse)
    fork = multiprocessing.get_context("fork")
    together = fork.Barrier(3)
    children = [fork.Process(target=_ask, args=(shards, together)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(list(shards.parent.glob("read.*"))) == (1 if writable else 3)
    assert (shards / facts.FILE).exists() is writable and not list(shards.glob(".facts*"))


def _refuse(self, **_: object) -> bool:
    raise PermissionError(13, "read-only")
