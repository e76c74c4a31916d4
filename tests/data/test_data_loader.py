"""The loader: equal images and draws for every cut of the work, bit-equal resume, and a state that knows nothing of prefetch."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from data_toys import PLAN, ToyCodec, ToyTower, make_posts
from hypothesis import given, settings
from hypothesis import strategies as st

from animeflow.core.batch import Batch
from animeflow.core.errors import ConfigError, DataError
from animeflow.data.assemble import Assembler
from animeflow.data.cache import build_cache
from animeflow.data.index import CacheIndex
from animeflow.data.loader import Loader, fixed_batches
from animeflow.data.plan import Plan
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.text.caption import CaptionPolicy

POLICY = CaptionPolicy(order=("general",), rating_words={}, size_tags=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    write_shards(make_posts(root / "pictures", 50), PLAN, root / "shards", root=root / "pictures")
    build_cache(ShardSet(root / "shards"), ToyCodec(), ToyTower(), POLICY, out=root / "cache", seed=5, variants=4)
    return root


DROPOUT = {"caption_dropout": 0.2, "encoder_dropout": {"words": 0.3, "sum": 0.1}}


def make(
    folder: Path, *, seed: int = 7, chunks_per_step: int = 1, preload: bool = False, texts: dict | None = None, **cut
) -> Loader:
    index = CacheIndex(folder / "cache", memory_bytes=2**62 if preload else 0)
    plan = Plan(index.buckets(), seed=seed, batch=8, chunks_per_step=chunks_per_step)
    assemble = Assembler(index, ToyTower(), seed=seed, **(DROPOUT | (texts or {})))
    return Loader(plan, assemble, **({"micro_batch": 8} | cut))


Image = tuple[int, int, bytes, bytes]


def images(steps: Iterator[list[Batch]]) -> list[list[Image]]:
    """Per step: uid, visit, latent and conditioning of every image of this process."""
    found = []
    for batches in steps:
        rows = []
        for batch in batches:
            for i, (uid, visit) in enumerate(zip(batch.uids, batch.visits)):
                seen = b"".join(tensor[i].float().numpy().tobytes() for tensor in batch.conditioning.values())
                rows.append((uid, visit, batch.latents[i].float().numpy().tobytes(), seen))
        found.append(rows)
    return found


def run(loader: Loader, count: int) -> list[list[Image]]:
    return images(islice(iter(loader), count))


def test_batches_are_of_one_bucket_as_they_are_stored_and_know_the_size_of_their_step(folder: Path):
    index = CacheIndex(folder / "cache")
    for batches in islice(make(folder, micro_batch=2, world=2, chunks_per_step=2), 20):
        assert len(batches) == 2
        for batch in batches:
            height, width = map(int, index.bucket_of(batch.uids[0]).split("x"))
            assert batch.latents.shape == (2, 3, height // 8, width // 8) and batch.global_count == 8
            assert batch.latents.dtype == batch.conditioning["sum"].dtype == torch.bfloat16
            for uid, latent in zip(batch.uids, batch.latents):
                assert torch.equal(latent, index.latents.get(index.latent_address(uid))[""])


@pytest.mark.parametrize("world, micro", [(1, 4), (1, 2), (2, 4), (2, 2), (4, 2), (4, 1)])
def test_2x4_equals_1x8_images_and_draws(folder: Path, world: int, micro: int):
    whole = run(make(folder), 25)
    parts = [run(make(folder, rank=rank, world=world, micro_batch=micro), 25) for rank in range(world)]
    for step, rows in enumerate(whole):
        assert sorted(row for part in parts for row in part[step]) == sorted(rows)


@pytest.mark.parametrize(
    "options", [{"prefetch": 0}, {"prefetch": 5}, {"threads": 1}, {"threads": 6}, {"preload": True}]
)
def test_neither_prefetch_nor_threads_nor_memory_changes_anything(folder: Path, options: dict):
    assert run(make(folder, **options), 25) == run(make(folder), 25)


@pytest.mark.parametrize("stop", [0, 1, 5, 13])
def test_a_resume_in_the_middle_of_an_epoch_is_bit_equal(folder: Path, stop: int):
    whole = run(make(folder), 20)
    first = make(folder, prefetch=6)
    assert run(first, stop) == whole[:stop]
    state = json.loads(json.dumps(first.state_dict()))
    assert state["step"] == stop and first.images_seen == 8 * stop, "what was prepared ahead is not in the state"
    second = make(folder, micro_batch=4)
    second.load_state_dict(state)
    assert run(second, 20 - stop) == whole[stop:]


def test_the_state_moves_with_every_step_handed_out(folder: Path):
    loader = make(folder, prefetch=4)
    for step, _ in enumerate(islice(loader, 6), start=1):
        assert loader.state_dict()["step"] == step


def test_an_iterator_left_half_way_loses_nothing(folder: Path):
    loader, whole = make(folder), run(make(folder), 12)
    found = run(loader, 5) + run(loader, 4) + run(loader, 3)
    assert found == whole
    assert not [thread for thread in threading.enumerate() if thread.name == "loader"]


@given(st.integers(0, 2**20), st.sampled_from([(1, 8), (1, 4), (2, 4), (2, 1), (4, 2)]), st.integers(0, 12))
@settings(max_examples=12, deadline=None)
def test_the_ledger_of_a_run_that_changes_its_world_is_that_of_one_process(
    folder: Path, seed: int, cut: tuple[int, int], stop: int
):
    whole = run(make(folder, seed=seed, prefetch=0), 14)
    world, micro = cut
    loaders = [make(folder, seed=seed, rank=r, world=world, micro_batch=micro, prefetch=0) for r in range(world)]
    parts = [run(loader, stop) for loader in loaders]
    states = [loader.state_dict() for loader in loaders]
    assert all(state == states[0] for state in states)
    rest = make(folder, seed=seed, prefetch=0)
    rest.load_state_dict(states[0])
    joined = [sorted(row for part in parts for row in part[step]) for step in range(stop)]
    assert joined + [sorted(rows) for rows in run(rest, 14 - stop)] == [sorted(rows) for rows in whole]


# -- captions ----------------------------------------------------------------------------------------------------------


def assembler(folder: Path, **options) -> Assembler:
    return Assembler(CacheIndex(folder / "cache"), ToyTower(), **({"seed": 7} | options))


def test_another_visit_is_another_draw_among_the_cached_captions(folder: Path):
    build = assembler(folder)
    for uid in build.index.uids[:10]:
        drawn = {build.caption_address(uid, visit) for visit in range(60)}
        assert drawn == set(build.index.caption_addresses(uid))


def test_dropouts_have_their_share_and_are_independent(folder: Path):
    build = assembler(folder, caption_dropout=0.1, encoder_dropout={"words": 0.464, "sum": 0.25})
    pairs = [(uid, visit) for uid in build.index.uids for visit in range(100)]
    empty = [build.caption_address(*pair) == build.index.empty for pair in pairs]
    dropped = [build.dropped_encoders(*pair) for pair in pairs]
    shares = [sum(empty), *(sum(n in d for d in dropped) for n in ("words", "sum")), sum(len(d) == 2 for d in dropped)]
    both = sum(e and "words" in d for e, d in zip(empty, dropped))
    for found, wanted in zip([*shares, both], [0.1, 0.464, 0.25, 0.116, 0.0464]):
        assert found / len(pairs) == pytest.approx(wanted, abs=0.025)


def test_a_dropped_caption_is_the_encoded_empty_prompt_and_a_dropped_encoder_is_its_null(folder: Path):
    tower, uids = ToyTower(), CacheIndex(folder / "cache").buckets()["32x32"][:4]
    empty = assembler(folder, caption_dropout=1.0).batch(uids, [0] * 4, global_count=4)
    assert torch.equal(empty.conditioning["sum"], tower.collate(tower.encode([""] * 4))["sum"])
    plain = assembler(folder).batch(uids, [0] * 4, global_count=4)
    part = assembler(folder, encoder_dropout={"words": 1.0}).batch(uids, [0] * 4, global_count=4)
    assert not part.conditioning["words"].any() and torch.equal(part.conditioning["sum"], plain.conditioning["sum"])


def test_live_captions_differ_with_every_visit_and_equal_the_cached_features(folder: Path):
    live = {"texts": "live", "shards": ShardSet(folder / "shards"), "policy": POLICY}
    build, tower = assembler(folder, **live), ToyTower()
    uids = build.index.buckets()["32x32"][:3]
    assert len({build.caption(uids[0], visit) for visit in range(30)}) > 8, "more than the cached variants"
    batch = build.batch(uids, [2, 0, 1], global_count=3)
    (row,) = tower.encode([build.caption(uids[0], 2)])
    assert torch.equal(batch.conditioning["sum"][0], row["sum"].bfloat16())
    assert run(make(folder, texts=live), 12) == run(make(folder, texts=live, prefetch=0), 12)
    whole = run(make(folder, texts=live), 12)
    halves = [run(make(folder, texts=live, rank=rank, world=2, micro_batch=2), 12) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*halves)] == [sorted(rows) for rows in whole]


def test_fixed_batches_cover_a_split_once_and_are_equal_every_time(folder: Path):
    build = assembler(folder)
    first, second = (fixed_batches(build, "val", images=32, micro_batch=2) for _ in range(2))
    index = build.index
    assert sorted(u for batch in first for u in batch.uids) == sorted(
        u for us in index.buckets("val").values() for u in us
    )
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(first, second, strict=True))
    assert {batch.global_count for batch in first} == {5}
    assert sum(map(len, fixed_batches(build, "train", images=7, micro_batch=4))) == 7


# -- errors ------------------------------------------------------------------------------------------------------------


def test_impossible_options_are_named(folder: Path):
    for options, message in [
        ({"encoder_dropout": {"word": 0.1}}, "did you mean 'words'"),
        ({"encoder_dropout": {"word": 0.1}}, r"where: data\.loader\.encoder_dropout"),
        ({"texts": "lve"}, r"where: data\.loader\.texts"),
        ({"texts": "live"}, r"where: data\.loader\.texts"),
        ({"caption_dropout": 1.5}, "not a share"),
        ({"texts": "live"}, "need the shards"),
        ({"texts": "fresh"}, "unknown texts"),
    ]:
        with pytest.raises(ConfigError, match=message):
            assembler(folder, **options)
    with pytest.raises(ConfigError, match="cannot be cut"):
        make(folder, micro_batch=3)
    with pytest.raises(ConfigError, match="another tower"):
        Assembler(CacheIndex(folder / "cache"), ToyTower(limit=3), seed=0)


def test_a_cache_without_captions_serves_live_ones_only(folder: Path, tmp_path: Path):
    shards = ShardSet(folder / "shards")
    report = build_cache(shards, ToyCodec(), ToyTower(), POLICY, out=tmp_path / "cache", seed=5, variants=0)
    assert report.texts_encoded == 1
    with pytest.raises(ConfigError, match="holds no captions"):
        make(tmp_path)
    assert run(make(tmp_path, texts={"texts": "live", "shards": shards, "policy": POLICY}), 2)


def test_an_error_of_the_thread_is_raised_where_its_step_is_due(folder: Path, tmp_path: Path):
    shards = ShardSet(folder / "shards")
    build_cache(shards, ToyCodec(), ToyTower(), POLICY, out=tmp_path / "cache", seed=5)
    loader = make(tmp_path)
    (path,) = (tmp_path / "cache/latents").glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-20:] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(DataError, match="not what was written") as caught:
        run(loader, 40)
    assert caught.value.where == str(path)
    assert loader.state_dict()["step"] < 40


def test_waiting_is_measured(folder: Path):
    loader = make(folder, prefetch=0)
    run(loader, 5)
    assert 0 < loader.wait_share() <= 1
