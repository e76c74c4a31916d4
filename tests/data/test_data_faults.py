"""Broken files of a set: never a wrong pair of caption and latent, always an error with the file, and a run that may skip a few."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_toys import PLAN, ToyCodec, ToyTower, make_posts

from animeflow.core import files
from animeflow.core.errors import DataError
from animeflow.data.assemble import Assembler
from animeflow.data.cache import build_cache
from animeflow.data.index import CacheIndex, bearable
from animeflow.data.loader import Loader
from animeflow.data.manifest import key
from animeflow.data.place import OutOfReach
from animeflow.data.plan import Plan
from animeflow.data.reader import ShardSet, stream
from animeflow.data.shard import write_shards
from animeflow.data.stand_in import Substituting
from animeflow.text.caption import CaptionPolicy

POLICY = CaptionPolicy(order=("general",), rating_words={}, size_tags=False)
DAMAGES = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    write_shards(make_posts(root / "pictures", 50), PLAN, root / "shards", root=root / "pictures", max_bytes=100_000)
    shards = ShardSet(root / "shards")
    build_cache(shards, ToyCodec(), ToyTower(), POLICY, out=root / "cache", seed=5, variants=4, segment_bytes=700)
    return root


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    for name in ("shards", "cache"):
        shutil.copytree(whole / name, tmp_path / name)
    return tmp_path


def damage(path: Path, rng: random.Random) -> str:
    """Truncate a file, flip bits of it or overwrite a piece with zeros, somewhere."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    kind = rng.choice(["truncated", "flipped", "zeroed"])
    if kind == "truncated":
        del data[at:]
    elif kind == "flipped":
        data[at] ^= 1 << rng.randrange(8)
    else:
        piece = data[at : at + rng.randrange(1, 600)]
        data[at : at + len(piece)] = bytes(len(piece))
    path.write_bytes(data)
    return kind


def read_right_or_say(path: Path, read: Callable[[int], object], wanted: dict[int, object]) -> int:
    """How many of `wanted` cannot be read; the rest has to be right, and every error has to name the file."""
    failed = 0
    for uid, value in wanted.items():
        try:
            assert read(uid) == value
        except DataError as error:
            assert error.where == str(path), error
            failed += 1
    return failed


# -- never a wrong byte ------------------------------------------------------------------------------------------------


def test_a_damaged_segment_gives_the_right_entry_or_an_error_that_names_it(folder: Path):
    index, rng = CacheIndex(folder / "cache"), random.Random(1)
    pairs = {uid: _pair(index, uid) for uid in index.uids}
    paths = sorted((folder / "cache").glob("*/*.safetensors"))
    assert len(paths) > 4
    seen, failed = set(), 0
    for _ in range(DAMAGES):
        path = rng.choice(paths)
        before = path.read_bytes()
        seen.add(damage(path, rng))
        failed += read_right_or_say(path, lambda uid: _pair(index, uid), pairs)
        try:  # a set that is opened anew
            again = CacheIndex(folder / "cache")
            read_right_or_say(path, lambda uid, again=again: _pair(again, uid), pairs)
        except DataError as error:
            assert error.where in (str(path), str(folder / "cache"))
        path.write_bytes(before)
    assert seen == {"truncated", "flipped", "zeroed"} and failed > DAMAGES
    assert read_right_or_say(paths[0], lambda uid: _pair(index, uid), pairs) == 0


def _pair(index: CacheIndex, uid: int) -> tuple:
    rows = [index.texts.get(address) for address in index.caption_addresses(uid)]
    latent = index.latents.get(index.latent_address(uid))[""]
    return latent.float().numpy().tobytes(), *(row["words"].float().numpy().tobytes() for row in rows)


def test_a_damaged_tar_gives_the_right_sample_or_an_error_that_names_it(folder: Path):
    shards, rng = ShardSet(folder / "shards"), random.Random(2)
    samples = {uid: shards.sample(uid) for uid in shards.uids}
    paths, failed = sorted((folder / "shards").rglob("*.tar")), 0
    for _ in range(DAMAGES):
        path = rng.choice(paths)
        before = path.read_bytes()
        damage(path, rng)
        failed += read_right_or_say(path, shards.sample, samples)
        changed = path.read_bytes() != before
        assert [error.where for error in shards.verify()] == [str(path)] * changed
        path.write_bytes(before)
    assert failed > DAMAGES and not list(shards.verify())


def test_a_stream_of_a_truncated_tar_gives_no_mixed_sample(folder: Path):
    shards, rng = ShardSet(folder / "shards"), random.Random(3)
    samples = {uid: shards.sample(uid) for uid in shards.uids}
    path = sorted((folder / "shards").rglob("*.tar"))[0]
    before, errors = path.read_bytes(), 0
    for _ in range(DAMAGES // 2):
        os.truncate(path, rng.randrange(len(before) - 10240))  # the last ten kilobytes are padding
        try:
            for sample in stream(folder / "shards"):
                assert sample == samples[sample.uid]
        except DataError as error:
            assert error.where == str(path)
            errors += 1
        path.write_bytes(before)
    assert errors > DAMAGES // 3


def test_an_index_that_lies_about_places_is_found_at_every_sample(folder: Path):
    path = folder / "shards/index.parquet"
    table = pq.read_table(path)
    for column, change in [("png_size", -1), ("png_offset", 512), ("json_offset", -512), ("json_size", 7)]:
        lying = table.set_column(
            table.column_names.index(column), column, pa.array(table[column].to_numpy() + change, pa.int64())
        )
        pq.write_table(lying, path)
        with pytest.raises(DataError, match="not the one of the manifest"):
            ShardSet(folder / "shards")
        _sign(folder / "shards", path)
        shards = ShardSet(folder / "shards")
        for uid in shards.uids:
            with pytest.raises(DataError):
                shards.sample(uid)


def _sign(folder: Path, index: Path) -> None:
    manifest = files.read_json(folder / "manifest.json")
    manifest["index"]["sha256"] = files.sha256_file(index)
    files.write_json(folder / "manifest.json", manifest)


def test_a_damaged_index_of_a_cache_is_no_other_index(folder: Path):
    (path,) = (folder / "cache").glob("index-*.parquet")
    good, rng, refused = CacheIndex(folder / "cache"), random.Random(4), 0
    rows = {uid: (good.bucket_of(uid), good.latent_address(uid), good.caption_addresses(uid)) for uid in good.uids}
    before = path.read_bytes()
    for _ in range(3 * DAMAGES):
        damage(path, rng)
        try:
            index = CacheIndex(folder / "cache")
            found = {u: (index.bucket_of(u), index.latent_address(u), index.caption_addresses(u)) for u in index.uids}
            assert found == rows
        except DataError:
            refused += 1
        path.write_bytes(before)
    assert refused > 2 * DAMAGES


# -- others in the place of the broken ---------------------------------------------------------------------------------


def spoil(folder: Path, uids: list[int]) -> None:
    """Flip a byte of the latents of some pictures."""
    index = CacheIndex(folder / "cache")
    for uid in uids:
        entry = index.latents.locate(index.latent_address(uid))
        assert entry is not None
        data = bytearray(entry.path.read_bytes())
        data[entry.begin + 3] ^= 16
        entry.path.write_bytes(data)


def substituting(folder: Path, listed: Path | None = None) -> Substituting:
    index = CacheIndex(folder / "cache", skip_broken=True)
    return Substituting(Assembler(index, ToyTower(), seed=7, caption_dropout=0.2), listed=listed)


def run(assemble: Substituting | Assembler, steps: int, *, skip: int = 0, **cut: int) -> list[list[tuple]]:
    loader = Loader(Plan(assemble.index.buckets(), seed=7, batch=8), assemble, **({"micro_batch": 8} | cut))
    return [
        [
            (
                uid,
                visit,
                batch.latents[i].float().numpy().tobytes(),
                batch.conditioning["words"][i].float().sum().item(),
            )
            for batch in batches
            for i, (uid, visit) in enumerate(zip(batch.uids, batch.visits))
        ]
        for batches in islice(iter(loader), skip, steps)
    ]


def test_a_whole_set_is_read_as_without_the_policy(folder: Path):
    plain = Assembler(CacheIndex(folder / "cache"), ToyTower(), seed=7, caption_dropout=0.2)
    assert run(substituting(folder), 12) == run(plain, 12)


def test_stand_ins_are_alike_on_every_rank_and_after_every_resume(folder: Path):
    first = substituting(folder)
    before = run(first, 20)
    broken = [uids[1] for uids in first.index.buckets().values()]
    spoil(folder, broken)
    after = run(substituting(folder, folder / "run/broken.jsonl"), 20)
    bucket = first.index.bucket_of
    replaced = 0
    for old, new in zip(before, after, strict=True):
        for was, now in zip(old, new, strict=True):
            assert now[0] not in broken and bucket(now[0]) == bucket(was[0]) and now[1] == was[1]
            assert now == was or was[0] in broken
            replaced += was[0] in broken
    assert replaced > len(broken), "some came at more than one visit"
    assert run(substituting(folder), 20, skip=9) == after[9:], "a resume knows nothing of what came before"
    halves = [run(substituting(folder), 20, rank=rank, world=2, micro_batch=4) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*halves)] == [sorted(rows) for rows in after]


def test_what_was_replaced_is_listed_once_with_file_and_reason(folder: Path):
    listed, first = folder / "run/broken.jsonl", substituting(folder)
    broken = [uids[0] for uids in first.index.buckets().values()]
    spoil(folder, broken)
    for _ in range(2):
        assemble = substituting(folder, listed)
        run(assemble, 20)
        assert assemble.broken == len(broken)
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert sorted(line["uid"] for line in lines) == sorted(map(key, broken)) and len(lines) == len(broken)
    for line in lines:
        uid, other = int(line["uid"], 16), int(line["replaced_by"], 16)
        assert first.index.bucket_of(uid) == first.index.bucket_of(other) and other not in broken
        assert "not what was written" in line["reason"] and Path(line["file"]).is_file()


def test_more_than_a_run_puts_up_with_stops_it(folder: Path):
    assert [bearable(n) for n in (50, 9_999, 20_000, 1_330_000)] == [10, 10, 20, 1330]
    uids = sorted(uid for us in CacheIndex(folder / "cache").buckets().values() for uid in us)
    spoil(folder, uids[::4])
    assert len(uids[::4]) > 10
    with pytest.raises(DataError, match="11 of 50 pictures cannot be read") as caught:
        run(substituting(folder, folder / "broken.jsonl"), 60)
    assert "broken.jsonl" in (caught.value.do or "")


def test_a_store_out_of_reach_is_no_broken_picture(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assemble = substituting(folder, folder / "broken.jsonl")

    def away(address: str) -> dict:
        raise OutOfReach("the store gives no answer")

    monkeypatch.setattr(assemble.index.texts, "get", away)
    with pytest.raises(OutOfReach):
        run(assemble, 1)
    assert not (folder / "broken.jsonl").exists() and assemble.broken == 0


def test_an_error_that_is_no_broken_picture_stays_what_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assemble = substituting(folder)

    def fails(*_: object, **__: object) -> None:
        raise DataError("the tower is out of order")

    monkeypatch.setattr(assemble.tower, "collate", fails)
    with pytest.raises(DataError, match="out of order"):
        run(assemble, 1)


def test_a_segment_that_is_gone_before_the_start_costs_its_pictures_only(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    before = substituting(folder)
    path = before.index.latents.locate(before.index.latent_address(before.index.uids[0])).path  # type: ignore[union-attr]
    lost = {u for u in before.index.uids if before.index.latents.locate(before.index.latent_address(u)).path == path}  # type: ignore[union-attr]
    assert 0 < len(lost) <= 10, "few enough to go on"
    os.truncate(path, 100)
    with pytest.raises(DataError):
        CacheIndex(folder / "cache")
    with caplog.at_level(logging.WARNING):
        assemble = substituting(folder)
    assert str(path) in caplog.text
    seen = {row[0] for rows in run(assemble, 20) for row in rows}
    assert seen and not seen & lost
    for other in list((folder / "cache/latents").glob("*.safetensors"))[:-1]:
        other.unlink()
    with pytest.raises(DataError, match="are gone"):
        substituting(folder)


def test_the_choice_of_a_stand_in_spreads_over_the_bucket(folder: Path):
    assemble = substituting(folder)
    index = assemble.index
    uid = index.buckets()["32x32"][0]
    counts = np.unique([assemble.stand_in(uid, number) for number in range(300)], return_counts=True)
    assert set(counts[0]) == set(index.buckets()["32x32"]) and counts[1].max() < 60
