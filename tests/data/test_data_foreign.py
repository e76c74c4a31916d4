"""Tars that somebody else wrote: indexed without being touched, read as our own, and refused where they are hostile."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_toys import PLAN, ToyCodec, ToyTower, draw, make_posts, tree

from animeflow.core.errors import DataError
from animeflow.data.cache import build_cache
from animeflow.data.foreign import index_tars
from animeflow.data.index import CacheIndex
from animeflow.data.manifest import Manifest
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.image.decode import decode
from animeflow.image.encode import encode_png
from animeflow.text.caption import CaptionPolicy

POLICY = CaptionPolicy(order=("general",), rating_words={}, size_tags=False)
FACTS = {"tags": {"general": ["1girl", "hat"]}, "rating": "general"}


def pack(path: Path, members: dict[str, bytes], *odd: tarfile.TarInfo) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in odd:
            archive.addfile(member)


def sample(number: int, facts: object = FACTS, *, side: int = 32, key: str | None = None) -> dict[str, bytes]:
    """Two members as others name them: in a folder, under a number, the JSON first."""
    key = key or f"pictures/{number:05d}"
    return {f"{key}.json": json.dumps(facts).encode(), f"{key}.png": encode_png(draw(number, side, 48))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in range(3):
        members = {"README.md": b"about", "pictures/cover.jpg": b"no sample"}
        for number in range(10 * part, 10 * part + 10):
            split = {"split": "val"} if number % 10 == 9 else {}
            members |= sample(number, {**FACTS, **split, "captions": {"en": f"number {number}"}})
        pack(tmp_path / f"part{part % 2}" / f"{part}.tar", members)
    return tmp_path


def test_foreign_tars_are_read_like_our_own_and_stay_as_they_are(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
):
    before = tree(folder)
    manifest = index_tars(folder)
    assert manifest == Manifest.read(folder) and manifest.written == manifest.found == 30 and not manifest.rejected
    assert {k: v for k, v in tree(folder).items() if k in before} == before
    shards = ShardSet(folder)
    numbers = set()
    for uid in shards.uids:
        facts = shards.facts(uid)
        number = int(facts["captions"]["en"].split()[1])
        assert np.array_equal(decode(shards.sample(uid).png).pixels, draw(number, 32, 48))
        assert (shards.bucket_of(uid), shards.split_of(uid)) == ("32x48", "val" if number % 10 == 9 else "train")
        numbers.add(number)
    assert numbers == set(range(30)) and not list(shards.verify())
    out = tmp_path_factory.mktemp("cache")
    build_cache(shards, ToyCodec(), ToyTower(), POLICY, out=out, seed=5)
    assert len(CacheIndex(out).buckets("train")["32x48"]) == 27


def test_indexing_again_or_with_workers_gives_the_same_bytes(folder: Path):
    index_tars(folder)
    first = tree(folder)
    index_tars(folder, workers=2)
    assert tree(folder) == first


def test_our_own_shards_get_the_rows_that_they_have(tmp_path: Path):
    posts = make_posts(tmp_path / "p", 20)
    write_shards(posts, PLAN, tmp_path / "out", root=tmp_path / "p")
    with pytest.raises(DataError, match="the verb 'shard' wrote it"):
        index_tars(tmp_path / "out")
    ours = ShardSet(tmp_path / "out")
    wanted = sorted((ours.bucket_of(u), ours.pixels_of(u), ours.split_of(u), ours.sample(u).png) for u in ours.uids)
    (tmp_path / "out/manifest.json").unlink()
    index_tars(tmp_path / "out")
    found = ShardSet(tmp_path / "out")
    assert (
        sorted((found.bucket_of(u), found.pixels_of(u), found.split_of(u), found.sample(u).png) for u in found.uids)
        == wanted
    )


def test_what_does_not_fit_is_listed_with_its_reason(folder: Path):
    odd = {
        "incomplete": {"a.png": encode_png(draw(100, 32, 48))},
        "not_a_bucket": sample(101, side=33, key="b"),
        "bad_facts": {"c.json": b"[1]", "c.png": encode_png(draw(102, 32, 48))},
        "truncated": {"d.json": b"{}", "d.png": encode_png(draw(103, 32, 48))[:-40]},
        "twice": sample(4, key="e"),
    }
    words = [{"tags": "1girl, hat"}, {"tags": {"general": "1girl"}}, {"captions": ["a"]}, {"split": "test"}]
    members = {name: data for parts in odd.values() for name, data in parts.items()}
    for number, facts in enumerate(words):
        members |= sample(200 + number, facts, key=f"f{number}")
    pack(folder / "odd.tar", members)
    manifest = index_tars(folder)
    assert manifest.written == 30 and manifest.found == 30 + 9
    assert manifest.reasons == {**dict.fromkeys(odd, 1), "bad_facts": 1 + len(words)}
    assert all("odd.tar" in rejection.path or rejection.reason == "twice" for rejection in manifest.rejected)


def _link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


HOSTILE: dict[str, Callable[[Path], None]] = {
    "absolute": lambda path: pack(path, {"/etc/x.png": b""}),
    "parent": lambda path: pack(path, {"a/../../x.json": b"{}"}),
    "only dots": lambda path: pack(path, {"..": b"{}"}),
    "drive": lambda path: pack(path, {"c:x.png": b""}),
    "backslash": lambda path: pack(path, {"a\\x.png": b""}),
    "symbolic": lambda path: pack(path, {}, _link("x.png", tarfile.SYMTYPE, "/etc/passwd")),
    "hard": lambda path: pack(path, {}, _link("x.json", tarfile.LNKTYPE, "y.json")),
    "device": lambda path: pack(path, {}, _link("x.json", tarfile.CHRTYPE, "")),
    "pipe": lambda path: pack(path, {}, _link("x.json", tarfile.FIFOTYPE, "")),
    "same name": lambda path: _twice(path),
    "no tar": lambda path: path.write_bytes(b"noise" * 300),
}


def _twice(path: Path) -> None:
    pack(path, sample(1))
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("pictures/00001.png")
        archive.addfile(member, io.BytesIO())


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_tars_are_refused_by_name_and_nothing_is_written(folder: Path, kind: str):
    path = folder / "evil.tar"
    HOSTILE[kind](path)
    with pytest.raises(DataError) as caught:
        index_tars(folder)
    assert caught.value.where == str(path)
    assert not (folder / "manifest.json").exists() and not (folder / "index.parquet").exists()


def test_a_tar_that_breaks_off_is_refused(folder: Path):
    path = folder / "part0/0.tar"
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    os.truncate(path, last.offset_data + last.size - 1)
    with pytest.raises(DataError) as caught:
        index_tars(folder)
    assert caught.value.where == str(path)


def test_harmless_names_are_no_offence(folder: Path):
    pack(folder / "more.tar", sample(50, key="./a..b/c"), _link("dir", tarfile.DIRTYPE, ""))
    assert index_tars(folder).written == 31
