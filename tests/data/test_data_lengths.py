"""Captions of one length in one micro-batch: a step keeps its pictures, noise, t, loss and gradient, and few have a mask."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from data_toys import PLAN, ToyCodec, make_posts

from animeflow.app import wiring
from animeflow.core.batch import Batch
from animeflow.core.errors import DataError
from animeflow.data.assemble import Assembler
from animeflow.data.cache import build_cache
from animeflow.data.index import CacheIndex
from animeflow.data.loader import Loader
from animeflow.data.place import place_of
from animeflow.data.plan import Chunk, Plan
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.data.stand_in import Substituting
from animeflow.model.anima.family import Anima
from animeflow.model.sd35.family import SD35
from animeflow.recipe.velocity import Velocity
from animeflow.text.caption import CaptionPolicy

WORDS = [f"{first}{second}" for first in ("ka", "mi", "to", "ru", "se") for second in ("na", "ko", "li", "do")]
POLICY = CaptionPolicy(order=("general",), rating_words={}, size_tags=False, tag_dropout=0.3)
DROPOUT = {"caption_dropout": 0.1, "encoder_dropout": {"t5": 0.2}}
FAMILIES: dict[str, Any] = {
    "sd35": lambda: SD35("tiny", vocabulary=WORDS, clip_length=16, t5_pad_policy="buckets", depth=1, dual_attention_layers=(0,)),
    "anima": lambda: Anima("tiny", vocabulary=WORDS, text_floor=16, depth=1),
}  # fmt: skip


class SixteenChannels(ToyCodec):
    channels = 16

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().encode(pixels).repeat(1, 6, 1, 1)[:, :16]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose captions have from 1 to about 45 tokens, cached for both families."""
    root = tmp_path_factory.mktemp("lengths")
    posts = make_posts(root / "pictures", 60)
    some = [random.Random(n).sample(WORDS, random.Random(-n).randint(0, len(WORDS))) for n in range(len(posts))]
    posts = [replace(post, split="train", tags={"general": tags}) for post, tags in zip(posts, some, strict=True)]
    write_shards(posts, PLAN, root / "shards", root=root / "pictures")
    for name, make in FAMILIES.items():
        tower = make().text_tower()
        out, shards = root / "cache" / name, ShardSet(root / "shards")
        build_cache(shards, SixteenChannels(), tower, POLICY, out=out, seed=5, variants=3, segment_bytes=2**15)
    return root


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Any:
    return FAMILIES[request.param]()


@pytest.fixture(scope="module")
def sd35() -> Any:
    return FAMILIES["sd35"]()


def assembler(root: Path, family: Any, **options: Any) -> Assembler:
    return Assembler(CacheIndex(root / "cache" / family.name), family.text_tower(), seed=7, **DROPOUT | options)


def loader(assemble: Assembler, *, grouped: bool, chunks_per_step: int = 1, **cut: Any) -> Loader:
    plan = Plan(assemble.index.buckets(), seed=7, batch=16, chunks_per_step=chunks_per_step)
    options = {"micro_batch": 2, "prefetch": 0, "length": assemble.text_length if grouped else None}
    return Loader(plan, assemble, **options | cut)


def steps(assemble: Assembler, count: int, *, world: int = 1, **options: Any) -> list[list[list[Batch]]]:
    """Per step and process its micro-batches."""
    every = [islice(loader(assemble, rank=rank, world=world, **options), count) for rank in range(world)]
    return [list(step) for step in zip(*every, strict=True)]


def images(step: Sequence[list[Batch]]) -> list[tuple[int, int, int]]:
    found = [image for part in step for b in part for image in zip(b.uids, b.visits, b.places, strict=True)]
    return sorted(found)


def rows_of(step: Sequence[list[Batch]], assemble: Assembler) -> Iterator[list[int]]:
    """Tokens of T5 that the captions of each micro-batch were drawn with."""
    for batch in (batch for part in step for batch in part):
        addresses = [assemble.caption_address(*image) for image in zip(batch.uids, batch.visits, strict=True)]
        yield [len(assemble.index.texts.get(address)["t5"]) for address in addresses]


# -- the same steps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("chunks_per_step", [1, 2])
def test_a_step_holds_the_same_pictures_at_the_same_places_whatever_the_world(root, family, world, chunks_per_step):
    assemble = assembler(root, family)
    plain = steps(assemble, 12, grouped=False, chunks_per_step=chunks_per_step)
    grouped = steps(assemble, 12, grouped=True, chunks_per_step=chunks_per_step, world=world)
    assert [images(step) for step in grouped] == [images(step) for step in plain]
    assert any(a[0][0].uids != b[0][0].uids for a, b in zip(grouped, plain)), "nothing was sorted"
    assert len({len(part) for step in grouped for part in step}) == 1, "every process makes equally many micro-batches"


def test_noise_and_t_of_every_picture_stay(root, sd35):
    assemble, recipe = assembler(root, sd35), Velocity(torch.nn.Identity(), seed=3)

    def draws(**options: Any) -> dict[tuple[int, int], tuple[bytes, bytes]]:
        found = {}
        for step in steps(assemble, 6, **options):
            for batch in (batch for part in step for batch in part):
                noise, t = recipe.draw(batch)
                for i, image in enumerate(zip(batch.uids, batch.visits, strict=True)):
                    found[image] = (noise[i].numpy().tobytes(), t[i].numpy().tobytes())
        return found

    assert draws(grouped=True) == draws(grouped=True, world=4) == draws(grouped=False)


def test_loss_and_gradient_of_a_step_stay(root, family):
    assemble, backbone = assembler(root, family), family.backbone()
    with torch.no_grad():
        for number, parameter in enumerate(backbone.parameters()):  # a network that says nothing would pass
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    recipe = Velocity(backbone, seed=3)

    def summed(**options: Any) -> tuple[float, dict[str, torch.Tensor]]:
        backbone.zero_grad()
        total = 0.0
        for part in steps(assemble, 1, **options)[0]:
            for batch in part:
                cond = batch.conditioning.to(torch.device("cpu"))
                wide = {n: v.float() if v.is_floating_point() else v for n, v in cond.items()}
                loss = recipe.loss(replace(batch, conditioning=type(cond)(wide))).loss
                loss.backward()
                total += float(loss.detach())
        gradients = {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}
        return total, gradients

    loss, gradients = summed(grouped=False, micro_batch=4)
    for options in ({"micro_batch": 4}, {"micro_batch": 2, "world": 2}):
        again, others = summed(grouped=True, **options)
        assert again == pytest.approx(loss, rel=1e-5)
        size = torch.stack([g.norm() for g in gradients.values()]).norm()
        away = torch.stack([(gradients[n] - others[n]).norm() for n in gradients]).norm()
        assert away < 1e-4 * size and size > 0


@pytest.mark.parametrize("stop", [1, 5])
def test_a_resume_is_exact(root, sd35, stop):
    assemble = assembler(root, sd35)

    def seen(run: Loader, count: int) -> list[list[tuple[tuple[int, ...], bytes]]]:
        taken = islice(run, count)
        return [[(b.uids, b.conditioning["text"].float().numpy().tobytes()) for b in step] for step in taken]

    whole = seen(loader(assemble, grouped=True), 9)
    first = loader(assemble, grouped=True, prefetch=3)
    assert seen(first, stop) == whole[:stop]
    second = loader(assemble, grouped=True)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert seen(second, 9 - stop) == whole[stop:]


# -- fewer masks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2])
def test_a_process_needs_at_most_one_mask_per_chunk_between_two_lengths(root, sd35, world):
    assemble = assembler(root, sd35)
    lengths = sd35.t5_length.lengths
    assert lengths == (16, 26, 32)
    masks = {}
    for grouped in (False, True):
        found = steps(assemble, 20, grouped=grouped, world=world)
        masks[grouped] = [sum("text_mask" in b.conditioning for b in part) for step in found for part in step]
        drawn = [rows for step in found for rows in rows_of(step, assemble)]
        assert {tokens for rows in drawn for tokens in rows} == set(lengths)
        assert sum(len(set(rows)) > 1 for rows in drawn) == sum(masks[grouped]), "a mask exactly where lengths differ"
    assert max(masks[True]) <= len(lengths) - 1 < max(masks[False])
    assert 2 * sum(masks[True]) < sum(masks[False])


def test_processes_have_nearly_the_same_lengths_at_the_same_micro_batch(root, sd35):
    assemble = assembler(root, sd35)
    for step in steps(assemble, 10, grouped=True, world=2, micro_batch=1):
        one, other = ([rows[0] for rows in rows_of([part], assemble)] for part in step)
        assert len(one) == 8 and sum(a != b for a, b in zip(one, other, strict=True)) <= 2


def test_longer_captions_of_anima_than_the_floor_come_together(root):
    """Only there its DiT needs a mask, and only there a batch is padded beyond what it has anyway."""
    family = FAMILIES["anima"]()
    assemble, floor = assembler(root, family), family.shape.text_floor
    beyond = {
        grouped: sum(b.conditioning["t5_ids"].shape[1] > floor for step in steps(assemble, 20, grouped=grouped) for b in step[0])
        for grouped in (False, True)
    }  # fmt: skip
    assert 0 < beyond[True] < beyond[False]


def test_sorting_keeps_the_order_of_equals():
    chunk = Chunk("a", (5, 6, 7, 8), (0, 1, 0, 2), (4, 5, 6, 7))
    assert chunk.grouped([3, 1, 3, 1]) == Chunk("a", (6, 8, 5, 7), (1, 2, 0, 0), (5, 7, 4, 6))
    assert chunk.grouped([2, 2, 2, 2]) == chunk


# -- where lengths come from -------------------------------------------------------------------------------------------


def test_lengths_follow_the_tokens_and_nothing_is_read_for_them(root, sd35, tmp_path, monkeypatch):
    """Also out of rows in eight bits, and out of a store elsewhere."""
    shutil.copytree(root / "cache", tmp_path / "cache")
    out = tmp_path / "cache" / "sd35"
    options = {"out": out, "seed": 5, "variants": 3, "text_dtype": "int8"}
    build_cache(ShardSet(root / "shards"), SixteenChannels(), sd35.text_tower(), POLICY, **options)
    eight_bits = CacheIndex(out)
    here = CacheIndex(root / "cache" / "sd35")
    elsewhere = CacheIndex(place_of(f"local://{root}/cache/sd35"))
    assert not elsewhere.place.local and eight_bits.manifest["identity"]["text_dtype"] == "int8"
    orders = []
    for index in (here, elsewhere, eight_bits):
        assemble = Assembler(index, sd35.text_tower(), seed=7, **DROPOUT)
        chosen = [(uid, visit) for uid in index.uids for visit in range(3)]
        with monkeypatch.context() as patched:
            patched.setattr(type(index.texts), "_load", None)
            before = index.place.traffic.requests
            lengths = [assemble.text_length(*image) for image in chosen]
            assert index.place.traffic.requests == before
        tokens = [index.texts.get(assemble.caption_address(*image))["t5"].shape[0] for image in chosen]
        pairs = sorted(set(zip(tokens, lengths, strict=True)))
        assert [count for count, _ in pairs] == list(sd35.t5_length.lengths)
        assert [length for _, length in pairs] == sorted({length for _, length in pairs})
        orders.append([tokens.index(t) for t in tokens])
    elsewhere.close()  # its threads
    assert orders[0] == orders[1] == orders[2]


def test_a_row_that_is_gone_has_no_length_and_the_run_goes_on(root, sd35, tmp_path):
    shutil.copytree(root / "cache" / "sd35", tmp_path / "cache" / "sd35")
    index = CacheIndex(tmp_path / "cache" / "sd35")
    row = index.texts._row(index.caption_addresses(index.uids[0])[0])
    lost = index.texts._segments[index.texts._owners[row]].path
    lost.unlink()
    index = CacheIndex(tmp_path / "cache" / "sd35", skip_broken=True)
    assemble = Assembler(index, sd35.text_tower(), seed=7)
    gone = [uid for uid in index.uids if index.texts.missing(index.caption_addresses(uid))]
    assert 0 < len(gone) <= 10
    with pytest.raises(DataError, match="not in the cache"):
        index.texts.layout(index.texts.missing(index.caption_addresses(gone[0]))[0])
    visits = [visit for visit in range(40) if index.texts.missing([assemble.caption_address(gone[0], visit)])]
    assert assemble.text_length(gone[0], visits[0]) == 0
    run = wiring.loader(config(broken="skip"), Substituting(assemble), codec="codec-1", rank=0, world=1, pin=False)
    assert sum(len(batch) for step in islice(run, 12) for batch in step) == 12 * 16


def test_live_features_are_the_cached_ones_at_the_same_length(root, sd35, monkeypatch):
    cached = assembler(root, sd35)
    live = assembler(root, sd35, texts="live", shards=ShardSet(root / "shards"), policy=POLICY)
    said = {
        uid: dict(zip(cached.index.caption_addresses(uid), texts))
        for uid, texts in cached.index.captions(cached.index.uids).items()
    }
    monkeypatch.setattr(live, "caption", lambda uid, visit: said[uid].get(cached.caption_address(uid, visit), ""))
    uids, masks = cached.index.buckets()["32x32"][:20], 0
    for start in range(0, 20, 4):
        one, other = (
            b.batch(uids[start : start + 4], [0, 1, 2, 3], global_count=4).conditioning for b in (cached, live)
        )
        assert one.keys() == other.keys()
        masks += "text_mask" in one
        for name, tensor in one.items():
            torch.testing.assert_close(tensor, other[name], rtol=2**-7, atol=1e-6)  # one bf16 step
    assert masks


def config(**options: Any) -> dict[str, Any]:
    loading = {"batch": 16, "micro_batch": 2, "chunks_per_step": 1, "group_lengths": True}
    return {"seed": 7, "data": {"loader": loading | options}}


def test_the_option_and_that_live_captions_are_not_sorted(root, sd35):
    live = {"texts": "live", "shards": ShardSet(root / "shards"), "policy": POLICY}

    def order(assemble: Any, **options: Any) -> list[tuple[int, ...]]:
        run = wiring.loader(config(**options), assemble, codec="codec-1", rank=0, world=1, pin=False)
        return [batch.places for step in islice(run, 4) for batch in step]

    cached = assembler(root, sd35)
    as_planned = order(cached, group_lengths=False)
    assert as_planned == [tuple(range(n, n + 2)) for n in range(0, 16, 2)] * 4
    assert order(cached) == order(Substituting(cached)) != as_planned
    assert order(assembler(root, sd35, **live)) == as_planned
