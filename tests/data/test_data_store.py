"""The content-addressed store: plain safetensors, several writers, one hash per entry, no entry lost to a prune."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from animeflow.core.errors import DataError
from animeflow.core.files import address
from animeflow.data.segment import index_path, open_segment
from animeflow.data.store import Store, StoreWriter


def entry(number: int) -> tuple[str, dict[str, torch.Tensor]]:
    """A ragged row: its own length, two dtypes."""
    generator = torch.Generator().manual_seed(number)
    words = torch.randn(number % 5, 4, generator=generator).to(torch.bfloat16)
    return address(entry=number), {"words": words, "sum": words.sum(0), "ids": torch.arange(number % 5)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    for part in (range(20), range(15, 40)):  # two writers, some entries twice
        with StoreWriter(tmp_path / "store", segment_bytes=200) as writer:
            for number in part:
                writer.add(*entry(number))
    return Store(tmp_path / "store")


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        torch.equal(found[n], wanted[n]) and found[n].dtype == wanted[n].dtype for n in wanted
    )


def test_entries_come_back_bit_for_bit_with_their_own_length(store: Store):
    assert len(store) == 40 and len(list(store.folder.glob("*.safetensors"))) > 4
    for number in range(40):
        assert same(store.get(entry(number)[0]), entry(number)[1])


def test_segments_are_plain_safetensors(store: Store):
    names = {name for path in store.folder.glob("*.safetensors") for name in load_file(path)}
    assert names == {f"{entry(n)[0]}/{part}" for n in range(40) for part in ("words", "sum", "ids")}


def test_floats_are_stored_as_bfloat16_and_integers_as_they_are(tmp_path: Path):
    with StoreWriter(tmp_path) as writer:
        writer.add(address(a=1), {"": torch.tensor([1.0, 1 / 3]), "mask": torch.tensor([True, False])})
    found = Store(tmp_path).get(address(a=1))
    assert torch.equal(found[""], torch.tensor([1.0, 1 / 3]).bfloat16()) and found["mask"].dtype == torch.bool


def test_missing_names_each_absent_address_once(store: Store):
    absent = address(entry="absent")
    assert store.missing([entry(3)[0], absent, absent]) == [absent]
    assert entry(3)[0] in store and absent not in store
    with pytest.raises(DataError, match="not in the cache"):
        store.get(absent)


def test_addresses_that_end_in_zero_bytes_are_addresses(tmp_path: Path):
    odd = ["ab" * 14 + "0000", "ab" * 14 + "cd00", "00" * 16]
    with StoreWriter(tmp_path) as writer:
        for number, name in enumerate(odd):
            writer.add(name, {"": torch.tensor([float(number)])})
    store = Store(tmp_path)
    store.prune({odd[0], odd[2]})
    assert [name in store for name in odd] == [True, False, True]
    assert store.get(odd[2])[""].item() == 2.0


def test_a_lost_index_is_rebuilt_and_an_index_of_another_file_is_not_believed(store: Store):
    paths = sorted(store.folder.glob("*.safetensors"))
    index_path(paths[0]).unlink()
    index_path(paths[1]).write_bytes(index_path(paths[2]).read_bytes())
    index_path(paths[3]).write_bytes(b"noise")
    again = Store(store.folder)
    assert len(again) == 40 and index_path(paths[0]).is_file()
    assert all(same(again.get(entry(n)[0]), entry(n)[1]) for n in range(40))


@pytest.mark.parametrize("left", [10, 200])
def test_an_index_that_was_cut_off_is_made_anew(store: Store, left: int):
    beside = index_path(min(store.folder.glob("*.safetensors")))
    beside.write_bytes(beside.read_bytes()[:left])
    again = Store(store.folder)
    assert len(again) == 40 and all(same(again.get(entry(n)[0]), entry(n)[1]) for n in range(40))
    with np.load(beside) as saved:
        assert len(saved["entries"])


def test_indices_are_parsed_one_at_a_time_whatever_the_threads(store: Store, monkeypatch: pytest.MonkeyPatch):
    """CPython before 3.13 fails now and then where two threads parse literals, as numpy does with every header."""
    segment = min(store.folder.glob("*.safetensors"))
    inside, most, load = [0], [0], np.load

    def slow(*args: object, **options: object) -> object:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        inside[0] -= 1
        return load(*args, **options)

    monkeypatch.setattr("animeflow.data.segment.np.load", slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: open_segment(segment), range(8)))
    assert len(found) == 8 and most == [1]


def test_a_flipped_byte_is_found_and_named(tmp_path: Path):
    name, tensors = entry(4)
    with StoreWriter(tmp_path) as writer:
        writer.add(name, tensors)
    (path,) = tmp_path.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="not what was written") as caught:
        Store(tmp_path).get(name)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("size", [3, 40, -1])
def test_a_truncated_segment_is_found_and_named(store: Store, size: int):
    path = max(store.folder.glob("*.safetensors"))
    os.truncate(path, size if size > 0 else path.stat().st_size + size)
    with pytest.raises(DataError, match="broken") as caught:
        Store(store.folder)
    assert caught.value.where == str(path)


def test_prune_keeps_what_is_used_and_nothing_else(store: Store):
    keep = {entry(n)[0] for n in range(0, 40, 3)}
    dropped, freed = store.prune(keep)
    assert dropped == 40 - len(keep) and freed > 0
    for again in (store, Store(store.folder)):
        assert len(again) == len(keep)
        assert all(same(again.get(entry(n)[0]), entry(n)[1]) for n in range(0, 40, 3))


def test_memory_holds_no_more_than_its_budget(store: Store):
    small = Store(store.folder, memory_bytes=100)
    for number in range(40):
        small.get(entry(number)[0])
    held = sum(t.numel() * t.element_size() for row in small._memory.values() for t in row.values())
    assert 0 < held <= 100


def test_what_was_encoded_before_an_error_is_kept(tmp_path: Path):
    with pytest.raises(RuntimeError), StoreWriter(tmp_path) as writer:
        writer.add(*entry(1))
        raise RuntimeError("the codec ran out of memory")
    assert entry(1)[0] in Store(tmp_path)
