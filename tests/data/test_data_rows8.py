"""Rows in eight bits: bounded error, exact zeros, twice is once, half the space; and a cached caption is a live one, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data_toys import PLAN, ToyCodec, ToyTower, make_posts
from hypothesis import given, settings
from hypothesis import strategies as st

from animeflow.core.errors import ConfigError
from animeflow.data import rows8
from animeflow.data.assemble import Assembler
from animeflow.data.cache import build_cache, diff
from animeflow.data.index import CacheIndex
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.data.store import Store, StoreWriter
from animeflow.data.texts import text_address
from animeflow.text.caption import CaptionPolicy

POLICY = CaptionPolicy(order=("general",), rating_words={}, size_tags=False)


def features(seed: int, tokens: int, width: int, *, spread: float = 1.0, outliers: int = 0) -> torch.Tensor:
    """Channels of sizes that differ by e**spread, some of them a hundred times larger, as T5's and Qwen's are."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.exp(spread * torch.randn(width, generator=generator))
    sizes[torch.randperm(width, generator=generator)[:outliers]] *= 100
    return torch.randn(tokens, width, generator=generator) * sizes


def scales(exponent: torch.Tensor, width: int) -> torch.Tensor:
    """Of every channel, in float64 by arithmetic and not by bits."""
    return torch.pow(torch.tensor(2.0, dtype=torch.float64), exponent.double() - 127).repeat_interleave(16, -1)[
        ..., :width
    ]


numbers = st.floats(-(2.0**122), 2.0**122, width=32)


@given(st.lists(st.lists(numbers, min_size=21, max_size=21), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_the_error_is_at_most_half_a_scale_and_no_scale_is_larger_than_it_must_be(rows: list[list[float]]):
    x = torch.tensor(rows).bfloat16()
    q, exponent = rows8.quantise(x)
    assert (q.shape, exponent.shape) == (x.shape, (len(rows), 2))
    assert (q.dtype, exponent.dtype) == (torch.int8, torch.uint8)
    scale = scales(exponent, 21)
    back = rows8.dequantise(q, exponent)
    assert back.dtype == torch.bfloat16 and torch.equal(back.double(), q.double() * scale), "exact in bfloat16"
    assert bool(((back.double() - x.double()).abs() <= scale / 2).all())
    for block in (slice(0, 16), slice(16, 21)):
        largest = x[:, block].double().abs().amax(1)
        assert bool((largest <= 127 * scale[:, block][:, 0]).all())
        tight = (largest > 127 * scale[:, block][:, 0] / 2) | (exponent[:, block.start // 16] == 1) | (largest == 0)
        assert bool(tight.all())


@given(st.integers(0, 2**20), st.integers(0, 9), st.integers(1, 70), st.sampled_from([0.0, 1.0, 3.0]))
@settings(max_examples=100, deadline=None)
def test_twice_is_once(seed: int, tokens: int, width: int, spread: float):
    row = {"words": features(seed, tokens, width, spread=spread), "sum": torch.randn(5), "ids": torch.arange(tokens)}
    once = rows8.unpack(rows8.pack(row))
    twice = rows8.unpack(rows8.pack(once))
    assert once.keys() == twice.keys() == row.keys()
    assert all(torch.equal(once[name], twice[name]) and once[name].shape == row[name].shape for name in row)
    assert torch.equal(once["sum"], row["sum"].bfloat16()) and torch.equal(once["ids"], row["ids"])
    assert rows8.unpack(once) == once, "what was never packed is given back"


def test_zeros_are_zeros_beside_anything():
    x = features(1, 6, 64, outliers=3)
    x[:, ::3], x[2] = 0, 0
    back = rows8.dequantise(*rows8.quantise(x))
    assert not back[:, ::3].any() and not back[2].any() and back.any()
    assert not torch.signbit(rows8.dequantise(*rows8.quantise(-torch.zeros(2, 16)))).any()


def test_a_row_may_be_empty_and_a_token_shorter_than_a_block():
    packed = rows8.pack({"words": torch.zeros(0, 4)})
    assert packed["words"].shape == (0, 4) and rows8.unpack(packed)["words"].shape == (0, 4)


@pytest.mark.parametrize("spread, outliers", [(0.0, 0), (0.0, 8), (1.0, 0), (1.0, 8)])
def test_features_with_outliers_keep_their_direction_in_half_the_space(spread: float, outliers: int):
    """Goals: cosine of at least 0.9995 for every token, 450 KiB for 100 tokens of T5."""
    x = features(3, 100, 4096, spread=spread, outliers=outliers).bfloat16()
    packed = rows8.pack({"t5": x})
    assert sum(tensor.nbytes for tensor in packed.values()) == 100 * (4096 + 256) <= 450 * 1024
    back = rows8.unpack(packed)["t5"].double()
    assert float(torch.cosine_similarity(back, x.double()).min()) > 0.9998
    small = x.double().abs().mean(0) < 20  # what outliers leave of the others
    assert float(torch.cosine_similarity(back[:, small], x[:, small].double()).min()) > 0.995


# -- in a cache --------------------------------------------------------------------------------------------------------


class Tower(ToyTower):
    """Two blocks of channels to a word, and numbers that bfloat16 rounds."""

    def _row(self, words):
        row = super()._row(words)
        return {**row, "words": torch.cat([row["words"] * 10.0**k for k in range(-2, 3)], 1)}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    root = tmp_path_factory.mktemp("set")
    write_shards(make_posts(root / "pictures", 12), PLAN, root / "shards", root=root / "pictures")
    return ShardSet(root / "shards")


def build(shards: ShardSet, out: Path, tower: Tower | None = None, **options):
    options = {"seed": 5, "variants": 2} | options
    return build_cache(shards, ToyCodec(), tower or Tower(), POLICY, out=out, **options)


@pytest.mark.parametrize("text_dtype", ["bf16", "int8"])
def test_a_cached_caption_is_a_live_one_to_the_bit(shards: ShardSet, tmp_path: Path, text_dtype: str):
    build(shards, tmp_path, text_dtype=text_dtype, variants=1)
    index, tower = CacheIndex(tmp_path), Tower()
    cached = Assembler(index, tower, seed=1)
    live = Assembler(index, tower, seed=1, texts="live", shards=shards, policy=POLICY)
    live.caption = lambda uid, visit: index.captions([uid])[uid][0]  # type: ignore[method-assign]
    for uids in index.buckets(None).values():
        ours, theirs = (each.batch(uids, [0] * len(uids), global_count=1).conditioning for each in (cached, live))
        assert ours.keys() == theirs.keys() == {"words", "sum"}
        assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == torch.bfloat16 for name in ours)
        (fresh,) = tower.encode([live.caption(uids[0], 0)])
        exact = bool(torch.equal(ours["words"][0, : len(fresh["words"])], fresh["words"].bfloat16()))
        assert exact == (text_dtype == "bf16"), "eight bits are not sixteen"
        assert torch.equal(ours["sum"][0], fresh["sum"].bfloat16()), "pooled vectors stay in bfloat16"


def test_another_dtype_is_another_cache_whose_rows_are_packed_without_the_tower(shards: ShardSet, tmp_path: Path):
    plain = build(shards, tmp_path)
    found = diff(shards, ToyCodec(), Tower(), POLICY, out=tmp_path, seed=5, variants=2, text_dtype="int8")
    assert (found.texts_missing, found.latents_missing) == (plain.texts_encoded, 0)
    tower = Tower()
    packed = build(shards, tmp_path, tower, text_dtype="int8")
    assert tower.encoded == [] and packed.hash != plain.hash
    assert (packed.texts_encoded, packed.texts_reused, packed.latents_encoded) == (0, plain.texts_encoded, 0)
    assert build(shards, tmp_path, tower, text_dtype="int8").bytes == 0, "once"
    assert build(shards, tmp_path / "other", text_dtype="int8").hash == packed.hash
    converted, fresh = CacheIndex(tmp_path), CacheIndex(tmp_path / "other")
    old = CacheIndex(tmp_path, hash=plain.hash)
    for uid in fresh.uids:
        assert converted.caption_addresses(uid) == fresh.caption_addresses(uid)
        assert not set(old.caption_addresses(uid)) & set(fresh.caption_addresses(uid))
        for address in fresh.caption_addresses(uid):
            ours, theirs = converted.texts.get(address), fresh.texts.get(address)
            assert ours["words"].dtype == torch.int8 and ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_one_new_caption_beside_packed_ones_is_one_row_of_the_tower(shards: ShardSet, tmp_path: Path):
    build(shards, tmp_path, variants=1)
    tower = Tower()
    more = build(shards, tmp_path, tower, text_dtype="int8")
    with_two = CacheIndex(tmp_path).captions(shards.uids)
    new = {texts[1] for texts in with_two.values()} - {texts[0] for texts in with_two.values()}
    assert new and set(tower.encoded) == new and more.texts_encoded == len(new)


def test_the_addresses_of_bfloat16_rows_are_those_of_caches_made_before(tmp_path: Path):
    from animeflow.core import files

    tower = Tower()
    assert text_address("a", tower) == files.address(caption="a", tower=tower.fingerprint)
    assert text_address("a", tower, "int8") not in {text_address("a", tower), text_address("b", tower, "int8")}


def test_an_unknown_dtype_is_named(shards: ShardSet, tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean 'int8'") as caught:
        build(shards, tmp_path, text_dtype="int9")
    assert caught.value.where == "data.cache.text_dtype" and not list(tmp_path.iterdir())


def test_a_store_gives_packed_rows_back_bit_for_bit(tmp_path: Path):
    packed = rows8.pack({"t5": features(4, 7, 48), "pooled": torch.randn(9), "ids": torch.arange(7)})
    address = text_address("x", Tower(), "int8")
    with StoreWriter(tmp_path) as writer:
        assert writer.add(address, packed) == 7 * (48 + 3) + 2 * 9 + 8 * 7
    found = Store(tmp_path).get(address)
    assert found.keys() == packed.keys()
    assert all(found[name].dtype == packed[name].dtype and torch.equal(found[name], packed[name]) for name in packed)
