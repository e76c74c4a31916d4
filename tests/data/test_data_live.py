"""Captions encoded when they are read: the features of the cache, whatever is encoded beside what, and towers that only look on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from data_toys import PLAN, ToyCodec, ToyTower, make_posts
from safetensors.torch import load_file
from torch import Tensor

from animeflow.core.batch import Batch
from animeflow.core.errors import DataError
from animeflow.data.assemble import Assembler
from animeflow.data.cache import build_cache
from animeflow.data.index import CacheIndex
from animeflow.data.live import LiveTexts
from animeflow.data.loader import Loader
from animeflow.data.place import OutOfReach
from animeflow.data.plan import Plan
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.data.stand_in import Substituting
from animeflow.model.anima.family import Anima
from animeflow.model.sd35.family import SD35
from animeflow.optim.adamw import AdamW
from animeflow.optim.schedule import Constant
from animeflow.recipe.velocity import Velocity
from animeflow.text.caption import CaptionPolicy
from animeflow.train.settings import Settings
from animeflow.train.tracker import Tracker
from animeflow.train.trainer import Trainer

WORDS = [f"{first}{second}" for first in ("ka", "mi", "to") for second in ("na", "ko", "li", "do")]
POLICY = CaptionPolicy(order=("general",), rating_words={}, size_tags=False, tag_dropout=0.3)
DROPOUT = {"caption_dropout": 0.2, "encoder_dropout": {"t5": 0.2}}
FAMILIES: dict[str, Any] = {
    "sd35": lambda: SD35("tiny", vocabulary=WORDS, clip_length=16, t5_pad_policy="buckets", depth=1, dual_attention_layers=(0,)),
    "anima": lambda: Anima("tiny", vocabulary=WORDS, text_floor=16, depth=1),
}  # fmt: skip
Seen = list[list[tuple[int, int, dict[str, bytes]]]]


class SixteenChannels(ToyCodec):
    channels = 16

    def encode(self, pixels: Tensor) -> Tensor:
        return super().encode(pixels).repeat(1, 6, 1, 1)[:, :16]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captions of 0 to 12 words, cached for both families in both dtypes."""
    root = tmp_path_factory.mktemp("live")
    posts = make_posts(root / "pictures", 30)
    some = [random.Random(n).sample(WORDS, random.Random(-n).randint(0, len(WORDS))) for n in range(len(posts))]
    posts = [replace(post, split="train", tags={"general": tags}) for post, tags in zip(posts, some, strict=True)]
    write_shards(posts, PLAN, root / "shards", root=root / "pictures")
    for name, make in FAMILIES.items():
        tower, shards = make().text_tower(), ShardSet(root / "shards")
        for text_dtype in ("bf16", "int8"):
            out, options = root / name / text_dtype, {"seed": 5, "variants": 2, "text_dtype": text_dtype}
            build_cache(shards, SixteenChannels(), tower, POLICY, out=out, **options)
    return root


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Any:
    return FAMILIES[request.param]()


def assembler(root: Path, family: Any, *, live: bool = True, text_dtype: str = "bf16", **options: Any) -> Assembler:
    where = {"texts": "live", "shards": ShardSet(root / "shards"), "policy": POLICY, "device": "cpu"} if live else {}
    index = CacheIndex(root / family.name / text_dtype)
    return Assembler(index, family.text_tower(), seed=7, **DROPOUT | where | options)


def loader(assemble: Any, *, whole_steps: bool = True, **cut: Any) -> Loader:
    plan = Plan(assemble.index.buckets(), seed=7, batch=8)
    drawn = assemble.assemble if isinstance(assemble, Substituting) else assemble
    options = {"micro_batch": 2, "prefetch": 0, "ahead": drawn.encode_ahead if whole_steps else None}
    return Loader(plan, assemble, **options | cut)


def saying_what_is_cached(live: Assembler, cached: Assembler) -> Assembler:
    """So that both draw one caption for a visit, as the same features have to follow."""
    texts = cached.index.captions(cached.index.uids)
    said = {a: text for uid, all_of in texts.items() for a, text in zip(cached.index.caption_addresses(uid), all_of)}
    live.caption = lambda uid, visit: said.get(cached.caption_address(uid, visit), "")  # type: ignore[method-assign]
    return live


def captions_seen(tower: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What each call of `encode` is asked for."""
    asked: list[list[str]] = []
    encode = tower.encode
    monkeypatch.setattr(tower, "encode", lambda captions: (asked.append(list(captions)), encode(captions))[1])
    return asked


def close(one: Tensor, other: Tensor) -> bool:
    """Within rounding: a thousandth of its size, and the same shape and dtype. Masks and ids are equal."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    return float((one.double() - other.double()).norm()) <= 1e-3 * float(other.double().norm())


def seen(steps: Iterator[list[Batch]], count: int) -> Seen:
    """Per step: picture, visit and what of its conditioning is not padding."""

    def of(tensor: Tensor) -> bytes:
        rows = tensor.float().reshape(len(tensor), -1) if tensor.ndim else tensor[None, None].float()
        return rows[: int(rows.abs().sum(1).nonzero().max()) + 1 if rows.any() else 0].numpy().tobytes()

    return [
        [
            (uid, visit, {name: of(tensor[i]) for name, tensor in batch.conditioning.items() if not name.endswith("mask")})
            for batch in step
            for i, (uid, visit) in enumerate(zip(batch.uids, batch.visits, strict=True))
        ]
        for step in islice(steps, count)
    ]  # fmt: skip


# -- cached = live -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text_dtype", ["bf16", "int8"])
def test_a_run_sees_the_features_of_the_cache(root, family, text_dtype):
    cached = assembler(root, family, live=False, text_dtype=text_dtype)
    live = saying_what_is_cached(assembler(root, family, text_dtype=text_dtype), cached)
    for ours, theirs in islice(zip(loader(live), loader(cached, whole_steps=False)), 8):
        for one, other in zip(ours, theirs, strict=True):
            assert (one.uids, one.visits) == (other.uids, other.visits)
            assert one.conditioning.keys() == other.conditioning.keys()
            for name, tensor in one.conditioning.items():
                assert close(tensor, other.conditioning[name]), name
                assert tensor.dtype != torch.float32, "rounded as the cache rounds"


def test_eight_bits_are_not_sixteen(root, family):
    """Else the test above would hold for a tower that ignores how the cache rounds."""
    kinds = [
        saying_what_is_cached(assembler(root, family, text_dtype=d), assembler(root, family, live=False, text_dtype=d))
        for d in ("bf16", "int8")
    ]
    one, other = (next(iter(loader(live)))[0].conditioning for live in kinds)
    name = "text" if "text" in one else "qwen"
    assert not torch.equal(one[name], other[name])


# -- a whole step at once ----------------------------------------------------------------------------------------------


def test_a_step_is_one_call_in_which_nothing_is_twice_and_the_empty_caption_is_encoded_once(root, family, monkeypatch):
    asked = captions_seen(family.text_tower(), monkeypatch)
    assemble = assembler(root, family, caption_dropout=0.5)
    told = seen(iter(loader(assemble)), 6)
    said = [[assemble.caption(uid, visit) for uid, visit, _ in step] for step in told]
    assert sum("" in step for step in said) > 1 and any(len(set(step)) < len(step) - 1 for step in said)
    assert [call for call in asked if call == [""]] == [[""]], "once, and alone"
    assert [call for call in asked if call != [""]] == [sorted(set(step) - {""}) for step in said]


def test_to_encode_ahead_changes_no_batch(root, family):
    assemble = assembler(root, family)
    for ours, theirs in islice(zip(loader(assemble), loader(assemble, whole_steps=False)), 5):
        for one, other in zip(ours, theirs, strict=True):
            assert (one.uids, one.visits) == (other.uids, other.visits)
            for name, tensor in one.conditioning.items():
                assert close(tensor, other.conditioning[name]), name


def test_how_a_step_is_cut_changes_no_bit(root, family):
    """All of a step is encoded together, so micro-batches do not decide what is computed beside what."""
    assemble = assembler(root, family)
    whole = seen(iter(loader(assemble, micro_batch=8)), 6)
    assert seen(iter(loader(assemble, micro_batch=1, prefetch=2)), 6) == whole


@pytest.mark.parametrize("stop", [1, 5])
def test_a_resume_hears_the_same_captions_and_sees_the_same_features(root, family, stop):
    whole = seen(iter(loader(assembler(root, family))), 8)
    first = loader(assembler(root, family), prefetch=3)
    assert seen(iter(first), stop) == whole[:stop]
    second = loader(assembler(root, family), micro_batch=4)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert seen(iter(second), 8 - stop) == whole[stop:]


# -- what cannot be read -----------------------------------------------------------------------------------------------


def test_a_picture_without_facts_is_replaced_and_the_others_of_its_step_are_not_held_up(root, monkeypatch):
    family = FAMILIES["sd35"]()
    assemble = assembler(root, family)
    plain = next(iter(loader(assemble)))
    lost = plain[1].uids[0]
    facts = assemble.shards.facts

    def broken(uid: int) -> dict[str, Any]:
        if uid == lost:
            raise DataError("no facts", where="a.tar")
        return facts(uid)

    monkeypatch.setattr(assemble.shards, "facts", broken)
    monkeypatch.setattr(assemble, "caption_is_dropped", lambda uid, visit: False)
    with pytest.raises(DataError, match="no facts"):
        next(iter(loader(assemble)))
    replaced = next(iter(loader(Substituting(assemble))))
    changed = [(a, b) for one, other in zip(plain, replaced) for a, b in zip(one.uids, other.uids) if a != b]
    assert [a for a, _ in changed] == [lost] and changed[0][1] != lost
    (row,) = assemble._live.rows([(changed[0][1], 0)])
    assert torch.equal(row["pooled_l"], replaced[1].conditioning["pooled"][0, : len(row["pooled_l"])])


def test_a_store_out_of_reach_is_told_at_once():
    def caption(uid: int, visit: int) -> str:
        raise OutOfReach("no answer")

    live = LiveTexts(ToyTower(), caption, text_dtype="bf16")
    with pytest.raises(OutOfReach):
        live.ahead([(1, 0)])


def test_what_was_announced_is_forgotten_with_the_next_step():
    tower = ToyTower()
    live = LiveTexts(tower, lambda uid, visit: f"caption {uid} {visit}", text_dtype="bf16")
    live.ahead([(1, 0), (2, 0)])
    live.ahead([(3, 0)])
    assert tower.encoded == ["caption 1 0", "caption 2 0", "caption 3 0"]
    live.rows([(3, 0), (1, 0), (1, 0)])
    assert tower.encoded[3:] == ["caption 1 0"]


# -- frozen ------------------------------------------------------------------------------------------------------------


def test_towers_learn_nothing_and_are_in_no_optimizer_and_no_checkpoint(root, family, tmp_path):
    tower = family.text_tower()
    models = [tower.model] if "qwen" in tower.encoders else [tower.clip_l.model, tower.clip_g.model, tower.t5.model]
    weights = [p for model in models for p in model.parameters()]
    before = [p.clone() for p in weights]
    trainer = Trainer(
        learner=family.backbone(),
        recipe=lambda learner: Velocity(learner, seed=3),
        steps=loader(assembler(root, family), prefetch=2),
        optim=AdamW(lr=1e-2, rates={}),
        schedule=Constant(warmup_images=8),
        settings=Settings(images=24, precision="fp32", device="cpu", watchdog_seconds=0, checkpoint_every_images=16),
        folder=tmp_path,
        tracker=Tracker(tmp_path),
        hooks=[],
        identity={"seed": 3},
    )  # fmt: skip
    trainer.run()
    learned = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert learned and not learned & {id(p) for p in weights}
    assert not any(p.requires_grad or p.grad is not None for p in weights)
    assert all(torch.equal(p, old) for p, old in zip(weights, before, strict=True))
    files = list(tmp_path.rglob("*.safetensors"))
    saved = [tensor for file in files for tensor in load_file(file).values()]
    held = [any(torch.equal(tensor, p) for tensor in saved if tensor.shape == p.shape) for p in weights if p.ndim > 1]
    assert not any(held)
    assert any(
        torch.equal(tensor, p) for p in family.backbone().parameters() for tensor in saved if tensor.shape == p.shape
    )
