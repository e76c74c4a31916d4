"""Sets that lie elsewhere: the same bytes and batches as a local folder whatever the store does, or an error to act on."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from data_toys import PLAN, ToyCodec, ToyTower, make_posts
from fault_store import FaultStore, serve
from fsspec.registry import known_implementations

from animeflow.core.errors import ConfigError, DataError, MissingExtra
from animeflow.data.assemble import Assembler
from animeflow.data.cache import build_cache
from animeflow.data.index import CacheIndex
from animeflow.data.kept import KeptRanges
from animeflow.data.loader import Loader
from animeflow.data.place import Folder, OutOfReach, is_url, place_of
from animeflow.data.plan import Plan
from animeflow.data.reader import ShardSet
from animeflow.data.remote import Connection, Remote, RemoteFolder
from animeflow.data.shard import write_shards
from animeflow.text.caption import CaptionPolicy

POLICY = CaptionPolicy(order=("general",), rating_words={}, size_tags=False)
QUICK = Remote(retries=30, wait_s=0.001, longest_wait_s=0.01, connections=8, timeout_s=120.0)


def protocols() -> list[str]:
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        return ["plainhttp"]
    return ["plainhttp", "http"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    write_shards(make_posts(root / "pictures", 50), PLAN, root / "shards", root=root / "pictures", max_bytes=100_000)
    shards = ShardSet(root / "shards")
    build_cache(
        shards, ToyCodec(), ToyTower(), POLICY, out=root / "cache", seed=5, variants=4, segment_bytes=2000, threads=1
    )
    return root


@pytest.fixture
def store(folder: Path) -> Iterator[FaultStore]:
    with serve(folder) as served:
        yield served


@pytest.fixture(params=protocols())
def elsewhere(store: FaultStore, request: pytest.FixtureRequest) -> Iterator[Callable[..., RemoteFolder]]:
    """The folder that `store` serves, asked as `remote` says."""
    made: list[RemoteFolder] = []

    def make(remote: Remote = QUICK) -> RemoteFolder:
        place = place_of(store.url(request.param), remote)
        assert isinstance(place, RemoteFolder)
        made.append(place)
        return place

    yield make
    for place in made:
        place.close()


def batches(index: CacheIndex, count: int = 12, **options: int) -> list[tuple]:
    assemble = Assembler(index, ToyTower(), seed=7, caption_dropout=0.2)
    loader = Loader(Plan(index.buckets(), seed=7, batch=8), assemble, micro_batch=4, **options)
    return [
        (batch.uids, batch.visits, *(t.tobytes() for t in _arrays(batch)))
        for micro_batches in islice(iter(loader), count)
        for batch in micro_batches
    ]


def _arrays(batch) -> Iterator:
    yield batch.latents.float().numpy()
    yield from (tensor.float().numpy() for tensor in batch.conditioning.values())


def start_of_latents(index: CacheIndex) -> tuple[str, int, int]:
    """A file of latents, and the range of one entry in it."""
    segment = index.latents._segments[0]
    return segment.path.name, int(segment.entries[0]["begin"]), int(segment.entries[0]["size"])


# -- the same as a folder here -----------------------------------------------------------------------------------------


def test_a_cache_elsewhere_gives_the_same_batches_bit_for_bit(folder: Path, elsewhere: Callable):
    index = CacheIndex(elsewhere() / "cache")
    local = CacheIndex(folder / "cache")
    assert index.uids == local.uids and index.buckets(None) == local.buckets(None) and index.hash == local.hash
    assert index.captions(index.uids) == local.captions(index.uids)
    assert batches(index, threads=8) == batches(local)
    assert index.place.traffic.retries == 0 and index.place.traffic.requests > 50


def test_shards_elsewhere_give_the_same_samples(folder: Path, elsewhere: Callable):
    shards, local = ShardSet(elsewhere() / "shards"), ShardSet(folder / "shards")
    assert [shards.sample(uid) for uid in shards.uids] == [local.sample(uid) for uid in local.uids]
    assert list(shards.verify()) == []


def test_any_protocol_of_fsspec_will_do(folder: Path):
    memory = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file() and "pictures" not in path.parts:
            memory.pipe_file(f"/set/{path.relative_to(folder)}", path.read_bytes())
    index = None
    try:
        index = CacheIndex("memory://set/cache")
        assert batches(index) == batches(CacheIndex(folder / "cache"))
        assert ShardSet("memory://set/shards").uids == ShardSet(folder / "shards").uids
    finally:
        if index is not None:
            index.close()
        memory.rm("/set", recursive=True)


def test_paths_are_folders_and_urls_are_stores(tmp_path: Path):
    assert isinstance(place_of(tmp_path), Folder) and isinstance(place_of(f"file://{tmp_path}"), Folder)
    assert is_url("s3://a/b") and not is_url("sets/mine") and not is_url("c:/sets") and not is_url(Path("s3://a"))


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_no_fault_of_the_store_changes_a_byte_or_the_order(
    folder: Path, store: FaultStore, elsewhere: Callable, share: float
):
    wanted, local = batches(CacheIndex(folder / "cache"), 8), ShardSet(folder / "shards")
    store.share, store.kinds = share, tuple(k for k in store.kinds if k != "stall")
    index, shards = CacheIndex(elsewhere() / "cache"), ShardSet(elsewhere() / "shards")
    assert batches(index, 8, threads=8) == wanted
    assert all(shards.sample(uid) == local.sample(uid) for uid in local.uids[::3])
    traffic = index.place.traffic
    assert set(store.met) == set(store.kinds), "every kind of fault was met"
    assert traffic.retries > share / 3 * traffic.requests and traffic.seconds_waited > 0


def test_an_answer_of_another_length_is_not_taken_even_without_a_check(
    folder: Path, store: FaultStore, elsewhere: Callable
):
    place, name = elsewhere() / "shards", ShardSet(folder / "shards").manifest.shards[0]["name"]
    store.share, store.kinds = 0.5, ("short", "cut")
    whole = (folder / "shards" / name).read_bytes()
    for start in range(0, 6000, 500):
        assert place.read_range(name, start, 500) == whole[start : start + 500]
    assert place.read_bytes(name) == whole and place.traffic.retries == sum(store.met.values()) > 0


def test_a_request_that_is_never_answered_is_asked_again(folder: Path, store: FaultStore, elsewhere: Callable):
    place = elsewhere(replace(QUICK, timeout_s=0.3))
    index, local = CacheIndex(place / "cache"), CacheIndex(folder / "cache")
    store.share, store.kinds = 0.3, ("stall",)
    for uid in index.uids[:6]:
        address = index.latent_address(uid)
        assert index.latents.get(address)[""].equal(local.latents.get(address)[""])
    assert store.met["stall"] and index.place.traffic.retries >= store.met["stall"]


def test_an_outage_is_outlived_by_a_store_that_answered_before(folder: Path, store: FaultStore, elsewhere: Callable):
    place = elsewhere(Remote(retries=2, wait_s=0.001, longest_wait_s=0.01, outage_s=60.0))
    index = CacheIndex(place / "cache")
    store.away, store.back_after = True, 40
    assert batches(index, 4) == batches(CacheIndex(folder / "cache"), 4)
    assert not store.away and store.met["away"] == 40


def test_an_outage_that_does_not_end_says_that_the_run_can_be_resumed(store: FaultStore, elsewhere: Callable):
    place = elsewhere(Remote(retries=2, wait_s=0.001, longest_wait_s=0.01, outage_s=0.1))
    index = CacheIndex(place / "cache")
    store.away = True
    with pytest.raises(OutOfReach, match="gives no answer") as caught:
        batches(index)
    assert "resumed" in caught.value.do and caught.value.where.startswith(place.where())


def test_a_store_that_never_answered_is_given_up_after_the_retries(store: FaultStore, elsewhere: Callable):
    store.away = True
    place = elsewhere(Remote(retries=2, wait_s=0.001, longest_wait_s=0.01, outage_s=600.0))
    with pytest.raises(OutOfReach, match="3 tries"):
        CacheIndex(place / "cache")
    assert place.retries == 2


def test_what_is_not_there_and_what_is_refused_is_not_asked_for_again(store: FaultStore, elsewhere: Callable):
    place = elsewhere()
    with pytest.raises(DataError, match="none") as caught:
        place.read_range("nothing", 0, 5)
    assert caught.value.where == place.where("nothing") and not isinstance(caught.value, OutOfReach)
    assert place.size("nothing") is None and place.names("*") == []
    store.statuses["secret"] = 403
    with pytest.raises(OutOfReach, match="refuses"):
        place.read_range("secret", 0, 5)
    assert place.retries == 0 and store.asked["secret"] == 1


@pytest.mark.parametrize("fault", ["flipped", "cut", "gone"])
def test_a_file_that_is_broken_there_is_named_after_the_retries(
    folder: Path, tmp_path: Path, elsewhere: Callable, store: FaultStore, fault: str
):
    shutil.copytree(folder / "cache", tmp_path / "cache")
    store.root = tmp_path
    place = elsewhere(Remote(retries=3, wait_s=0.001, longest_wait_s=0.01))
    index = CacheIndex(place / "cache")
    name, start, size = start_of_latents(index)
    path = tmp_path / "cache/latents" / name
    if fault == "gone":
        path.unlink()
    elif fault == "cut":
        os.truncate(path, start + size - 1)
    else:
        data = bytearray(path.read_bytes())
        data[start] ^= 1
        path.write_bytes(data)
    (address,) = (a for a in map(index.latent_address, index.uids) if _lies_at(index, a, name, start))
    with pytest.raises(DataError) as caught:
        index.latents.get(address)
    assert caught.value.where == index.latents.place.where(name) and not isinstance(caught.value, OutOfReach)
    assert place.retries == (0 if fault == "gone" else 3)


def _lies_at(index: CacheIndex, address: str, name: str, start: int) -> bool:
    row = index.latents._row(address)
    segment = index.latents._segments[index.latents._owners[row]]
    return (segment.path.name, int(index.latents._entries[row]["begin"])) == (name, start)


def test_a_segment_without_its_index_is_named(folder: Path, tmp_path: Path, elsewhere: Callable, store: FaultStore):
    shutil.copytree(folder / "cache", tmp_path / "cache")
    store.root = tmp_path
    next((tmp_path / "cache/latents").glob("*.index.npz")).unlink()
    with pytest.raises(DataError, match=r"index\.npz"):
        CacheIndex(elsewhere() / "cache")


def test_a_missing_package_names_the_extra_and_an_unknown_protocol_its_neighbour(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(known_implementations, "away", {"class": "no_such_package.Fs", "err": "none"})
    with pytest.raises(MissingExtra, match=r"pip install 'animeflow\[remote\]'"):
        place_of("away://bucket/set")
    with pytest.raises(ConfigError, match="did you mean 's3'"):
        place_of("s33://bucket/set")
    with pytest.raises(ConfigError, match=r"data\.remote\.connections"):
        Remote(connections=0)


class _Answer(Exception):
    response: ClassVar[dict] = {"ResponseMetadata": {"HTTPStatusCode": 416}}  # as botocore says it


@pytest.mark.parametrize(
    ("error", "cause", "comes_to"),
    [
        (FileNotFoundError("The specified key does not exist."), _Answer("NoSuchKey"), FileNotFoundError),
        (FileNotFoundError("url"), ConnectionResetError("by peer"), OutOfReach),
        (OSError(errno.EINVAL, "InvalidRange"), _Answer("InvalidRange"), DataError),
        (PermissionError("Forbidden"), None, OutOfReach),
        (OSError(errno.EIO, "cut"), type("ParserError", (Exception,), {"code": 400})("half a body"), OutOfReach),
    ],
)
def test_what_clients_say_is_understood(error: Exception, cause: Exception | None, comes_to: type[Exception]):
    """`OutOfReach` says "no answer" of what is worth another try, and "refuses" of what is not."""
    asked = []

    class Client:
        async_impl = False

        def info(self, path: str) -> None:
            asked.append(path)
            raise error from cause

    connection = Connection(Client(), Remote(retries=2, wait_s=0.0))
    with pytest.raises(comes_to) as caught:
        connection.ask("there", "info", "there", judge=str)
    assert type(caught.value) is comes_to
    again = isinstance(cause, ConnectionResetError) or "cut" in str(error)
    assert len(asked) == (3 if again else 1) and ("no answer" in str(caught.value)) is again


# -- many at once ------------------------------------------------------------------------------------------------------


def test_fetching_asks_for_many_entries_at_once(folder: Path, store: FaultStore, elsewhere: Callable):
    index, local = CacheIndex(elsewhere() / "cache"), CacheIndex(folder / "cache")
    addresses = list(dict.fromkeys(index.latent_address(uid) for uid in index.uids))[:16]
    store.gate = threading.Barrier(8, timeout=50)  # a request gets through in company of seven others only
    before = index.place.traffic.requests
    index.latents.fetch(addresses)
    index.latents.fetch(addresses)
    for address in addresses:
        assert index.latents.get(address)[""].equal(local.latents.get(address)[""])
    assert index.place.traffic.requests - before == 16 and index.place.traffic.retries == 0, "each was read once"


def test_what_nobody_takes_is_forgotten_and_what_is_wrong_raises_where_it_is_taken(
    store: FaultStore, elsewhere: Callable
):
    index = CacheIndex(elsewhere() / "cache")
    index.latents._coming._limit = 3
    addresses = [index.latent_address(uid) for uid in index.uids[:10]]
    index.fetch(index.uids[:10], [])
    assert len(index.latents._coming._started) <= 3
    assert all("" in index.latents.get(address) for address in addresses)
    index.latents.fetch(["0" * 32])
    with pytest.raises(DataError, match="not in the cache"):
        index.latents.get("0" * 32)


def test_closing_ends_the_wait_for_a_store(store: FaultStore, elsewhere: Callable):
    index = CacheIndex(elsewhere(Remote(retries=1, wait_s=60.0, longest_wait_s=60.0)) / "cache")
    store.away = True
    index.latents.fetch([index.latent_address(index.uids[0])])
    future = next(iter(index.latents._coming._started.values()))
    index.close()
    assert isinstance(future.exception(timeout=300) if not future.cancelled() else OutOfReach(""), OutOfReach)


# -- local copies ------------------------------------------------------------------------------------------------------


def read_all(index: CacheIndex) -> list[bytes]:
    return [index.latents.get(index.latent_address(uid))[""].float().numpy().tobytes() for uid in index.uids]


def test_copies_save_requests_and_are_believed_by_their_hash_only(folder: Path, tmp_path: Path, elsewhere: Callable):
    remote, wanted = Remote(keep=tmp_path / "kept"), read_all(CacheIndex(folder / "cache"))
    first = CacheIndex(elsewhere(remote) / "cache")
    assert read_all(first) == wanted and first.place.traffic.kept == 0
    second = CacheIndex(elsewhere(remote) / "cache")
    before = second.place.traffic.requests
    assert read_all(second) == wanted and second.place.traffic.requests == before
    copies = sorted(path for path in (tmp_path / "kept").rglob("*") if path.is_file())
    copies[0].write_bytes(bytes(copies[0].stat().st_size))
    os.truncate(copies[1], 3)
    third = CacheIndex(elsewhere(remote) / "cache")
    before = third.place.traffic.requests
    assert read_all(third) == wanted and third.place.traffic.requests == before + 2


def test_copies_keep_below_their_limit_and_the_longest_unused_go_first(tmp_path: Path):
    kept = KeptRanges(tmp_path, 100_000)
    kept.write("u", 0, bytes(1000))
    for number in range(1, 250):
        kept.write("u", number, bytes(1000))
        assert kept.read("u", 0, 1000) is not None, "what is used stays"
        if number % 5 == 0:
            assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 100_000
    assert kept.read("u", 249, 1000) is not None and kept.read("u", 5, 1000) is None


def test_a_full_disk_is_bypassed_with_one_warning(
    tmp_path: Path, elsewhere: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    index = CacheIndex(elsewhere(Remote(keep=tmp_path / "kept")) / "cache")
    with caplog.at_level(logging.WARNING):
        assert read_all(index) == read_all(CacheIndex(folder / "cache"))
    assert [r.levelname for r in caplog.records if "No space left" in r.getMessage()] == ["WARNING"]
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
