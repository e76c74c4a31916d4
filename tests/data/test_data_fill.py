"""Latents arrive in the batch as they were stored, whichever way; what is broken is named as ever; training sees equal numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from data_toys import PLAN, ToyCodec, ToyTower, make_posts
from torch import Tensor

from animeflow.core import files
from animeflow.core.errors import DataError
from animeflow.data import fill
from animeflow.data.assemble import Assembler
from animeflow.data.cache import build_cache
from animeflow.data.fill import stacked
from animeflow.data.index import CacheIndex
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.data.store import Store, StoreWriter
from animeflow.data.texts import stored
from animeflow.model import registry
from animeflow.recipe.velocity import Velocity
from animeflow.text.caption import CaptionPolicy

NAMES = [files.address(number=number) for number in range(12)]
LATENTS = torch.randn(12, 3, 5, 7, generator=torch.Generator().manual_seed(0)).bfloat16()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve entries in files of about four."""
    with StoreWriter(tmp_path, segment_bytes=4 * LATENTS[0].nbytes) as writer:
        for name, latent in zip(NAMES, LATENTS):
            writer.add(name, {"": latent})
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    return tmp_path


ORDER = [7, 0, 11, 3, 3, 8, 1]


def wanted() -> Tensor:
    return LATENTS[ORDER]


def asked() -> list[str]:
    return [NAMES[number] for number in ORDER]


@pytest.mark.parametrize("memory", [0, 300, 2**40])
def test_rows_are_the_entries_in_the_order_asked(folder: Path, memory: int):
    store = Store(folder, memory_bytes=memory)
    for _ in range(2):  # the second time some or all of them lie in memory
        found = stacked(store, asked())
        assert found.dtype == torch.bfloat16 and found.is_contiguous() and torch.equal(found, wanted())
        assert torch.equal(stacked(store, asked(), verify=False), wanted())
    with ThreadPoolExecutor(4) as pool:
        assert torch.equal(stacked(store, asked(), walk=pool.map), wanted())


def test_bytes_go_from_the_file_into_the_row_and_nowhere_else(folder: Path, monkeypatch: pytest.MonkeyPatch):
    store, room = Store(folder), torch.zeros(len(ORDER), 3, 5, 7, dtype=torch.bfloat16)
    monkeypatch.setattr(store, "get", lambda address: pytest.fail("read into memory of its own"))
    places, real = [], os.preadv

    def preadv(handle: int, buffers: list, offset: int) -> int:
        places.extend(np.frombuffer(buffer, np.uint8).ctypes.data - room.data_ptr() for buffer in buffers)
        return real(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    assert stacked(store, asked(), out=room) is room and torch.equal(room, wanted())
    assert places == [number * LATENTS[0].nbytes for number in range(len(ORDER))]


def test_what_the_kernel_gives_in_pieces_is_put_together(folder: Path, monkeypatch: pytest.MonkeyPatch):
    store, real = Store(folder), os.preadv
    monkeypatch.setattr(os, "preadv", lambda handle, buffers, offset: real(handle, [buffers[0][:33]], offset))
    monkeypatch.setattr(store, "get", lambda address: pytest.fail("a short read is no error"))
    assert torch.equal(stacked(store, asked()), wanted())


def test_room_of_another_form_is_refused(folder: Path):
    for shape, dtype in [((6, 3, 5, 7), torch.bfloat16), ((7, 3, 7, 5), torch.bfloat16), ((7, 3, 5, 7), torch.float16)]:
        with pytest.raises(ValueError, match="cannot take entries"):
            stacked(Store(folder), asked(), out=torch.empty(shape, dtype=dtype))


def test_an_entry_of_another_shape_is_not_spread_over_its_row(folder: Path):
    with StoreWriter(folder) as writer:
        writer.add(files.address(number=50), {"": LATENTS[0][:, :1, :1]})
    with pytest.raises(ValueError, match=r"\[3, 1, 1\] cannot lie in a batch of \[3, 5, 7\]"):
        stacked(Store(folder), [NAMES[0], files.address(number=50)])


def test_every_batch_has_memory_of_its_own(folder: Path):
    store = Store(folder)
    first = stacked(store, NAMES[:2])
    stacked(store, NAMES[2:4]).zero_()
    assert torch.equal(first, LATENTS[:2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


@pytest.mark.parametrize("harm", [flip, cut, Path.unlink])
def test_a_failing_read_raises_what_the_store_raises(folder: Path, harm: Callable[[Path], None]):
    store = Store(folder)
    victims = {}
    for name in NAMES:
        entry = store.locate(name)
        victims[entry.path] = max(victims.get(entry.path, (0, "")), (entry.begin, name))
    path, (_, name) = next(iter(victims.items()))
    harm(path)
    with pytest.raises(DataError) as theirs:
        store.get(name)
    others = [other for other in NAMES if store.locate(other).path != path][:2]
    for asked_for in ([name], [*others, name]):
        with pytest.raises(DataError) as ours:
            stacked(store, asked_for)
        assert str(ours.value) == str(theirs.value) and ours.value.where == str(path)
    assert len(stacked(store, others)) == 2, "the other files are whole"


def test_an_address_that_is_not_there_is_named(folder: Path):
    with pytest.raises(DataError, match="is not in the cache"):
        stacked(Store(folder), [NAMES[0], files.address(number=99)])


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    write_shards(make_posts(root / "pictures", 12), PLAN, root / "shards", root=root / "pictures")
    policy = CaptionPolicy(order=("general",), rating_words={}, size_tags=False)
    build_cache(ShardSet(root / "shards"), ToyCodec(), ToyTower(), policy, out=root / "cache", seed=5, variants=2)
    return root / "cache"


class Reads(torch.nn.Module):
    """A learner that takes what it is given into its own type, as backbones do, and uses all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor([0.3, -1.1, 0.7]))

    def forward(self, x_BChw: Tensor, t_B: Tensor, cond) -> Tensor:
        text_B = cond["sum"].to(self.gain.dtype).sum(1) + cond["words"].to(self.gain.dtype).square().sum((1, 2))
        return x_BChw * self.gain[None, :, None, None] + (text_B * t_B)[:, None, None, None]


def test_training_in_float32_computes_the_same_numbers_as_from_float32_batches(built: Path):
    index = CacheIndex(built)
    assemble = Assembler(index, ToyTower(), seed=1, caption_dropout=0.2, encoder_dropout={"words": 0.3})
    for uids in index.buckets().values():
        batch = assemble.batch(uids, [4] * len(uids), global_count=len(uids))
        floats = type(batch)(
            torch.stack([index.latents.get(index.latent_address(uid))[""].float() for uid in uids]),
            batch.conditioning.to(dtype=torch.float32), batch.uids, batch.visits, batch.global_count,
        )  # fmt: skip
        assert batch.latents.dtype == batch.conditioning["words"].dtype == torch.bfloat16
        assert torch.equal(batch.latents.float(), floats.latents)
        found = []
        for each in (batch, floats):
            learner = Reads()
            loss = Velocity(learner, seed=1).loss(each).loss
            loss.backward()
            found.append((loss.detach(), learner.gain.grad))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", registry.names())
def test_backbones_take_conditioning_in_bfloat16_as_they_take_it_in_float32(name: str):
    family = registry.constructor(name)(flavour="tiny")
    learner, tower = family.backbone(), family.text_tower()
    rows = [stored(row, "bf16") for row in tower.encode(["1girl, blue hair, smile", "", "sky"])]
    conditioning = tower.collate(rows, drop=[frozenset(), frozenset(), frozenset(tower.encoders[:1])])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in learner.parameters():  # what starts at zero would hide what comes in
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        x, t = torch.randn(3, 16, 8, 8, generator=generator), torch.rand(3, generator=generator)
        ours, theirs = learner(x, t, conditioning), learner(x, t, conditioning.to(dtype=torch.float32))
    assert any(tensor.dtype == torch.bfloat16 for tensor in conditioning.values())
    assert ours.any() and torch.equal(ours, theirs)


def test_pinned_batches_are_page_locked_and_equal(built: Path, monkeypatch: pytest.MonkeyPatch):
    """Without a GPU nothing can be page-locked: that it is asked for, for every tensor, is what can be held here."""
    index, pinned, real = CacheIndex(built), [], torch.empty

    def empty(*shape, pin_memory: bool = False, **options) -> Tensor:
        made = real(*shape, **options)
        pinned.extend([made.data_ptr()] * pin_memory)
        return made

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor.data_ptr())
        return tensor

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    uids = max(index.buckets().values(), key=len)
    visits = [0] * len(uids)
    batch = Assembler(index, ToyTower(), seed=1, pin=True).batch(uids, visits, global_count=3)
    assert pinned.count(batch.latents.data_ptr()) == 2, "made so, and so not copied again"
    assert all(pinned.count(tensor.data_ptr()) == 1 for tensor in batch.conditioning.values())
    monkeypatch.undo()
    plain = Assembler(index, ToyTower(), seed=1).batch(uids, visits, global_count=3)
    assert torch.equal(batch.latents, plain.latents)
    assert all(torch.equal(tensor, plain.conditioning[name]) for name, tensor in batch.conditioning.items())


def test_the_fast_way_and_the_store_agree_on_what_is_read(folder: Path):
    store = Store(folder)
    for name, latent in zip(NAMES, LATENTS):
        entry = store.locate(name)
        row = np.zeros(entry.size, np.uint8)
        assert fill.read_into(entry, row) and row.tobytes() == latent.view(torch.uint8).numpy().tobytes()
        assert not fill.read_into(entry, row[1:]), "a row of another size"
        assert not fill.read_into(entry._replace(xxh3=entry.xxh3 ^ 1), row)
        assert fill.read_into(entry._replace(xxh3=entry.xxh3 ^ 1), row, verify=False)
