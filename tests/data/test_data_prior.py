"""What captions say to a model that knows no trigger: beside them in cache and batch, of one variant, with the same dropout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data_toys import PLAN, ToyCodec, ToyTower, make_posts, tree

from animeflow.core.errors import ConfigError, DataError
from animeflow.data.assemble import Assembler
from animeflow.data.cache import CacheReport, build_cache, diff, prune
from animeflow.data.index import CacheIndex
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.data.stand_in import Substituting
from animeflow.text.caption import CaptionPolicy, variants
from animeflow.text.concept import Concept

POLICY = CaptionPolicy(
    order=("general",),
    tag_dropout=0.2,
    concepts={"mine": Concept(trigger="zorblax", class_word="girl", prune=("hat",))},
)
VARIANTS = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Twelve pictures, of which every third is of no concept."""
    root = tmp_path_factory.mktemp("prior")
    posts = make_posts(root / "pictures", 12)
    posts = [post if i % 3 == 2 else replace(post, source="mine") for i, post in enumerate(posts)]
    write_shards(posts, PLAN, root / "shards", root=root / "pictures")
    fill(root, root / "cache", prior=True)
    return root


def fill(root: Path, out: Path, **options) -> CacheReport:
    defaults = {"out": out, "seed": 5, "variants": VARIANTS}
    return build_cache(ShardSet(root / "shards"), ToyCodec(), ToyTower(), POLICY, **defaults | options)


def assembler(root: Path, **options) -> Assembler:
    defaults = {"seed": 7, "prior": True, "caption_dropout": 0.3, "encoder_dropout": {"words": 0.3}}
    return Assembler(CacheIndex(root / "cache"), ToyTower(), **defaults | options)


def rows_of(texts: list[str]) -> list[dict[str, torch.Tensor]]:
    """As the cache holds them."""
    return [
        {n: t.bfloat16() if t.is_floating_point() else t for n, t in row.items()} for row in ToyTower().encode(texts)
    ]


def test_a_batch_holds_caption_and_prior_of_one_variant_with_one_dropout(root):
    assemble, shards, seen = assembler(root), ShardSet(root / "shards"), {"dropped": 0, "differ": 0, "same": 0}
    for uids in assemble.index.buckets(None).values():
        for visit in range(6):
            batch = assemble.batch(uids, [visit] * len(uids), global_count=len(uids))
            assert batch.prior is not None
            drop = [assemble.dropped_encoders(uid, visit) for uid in uids]
            said, meant = [], []
            for uid in uids:
                known = variants(shards.facts(uid), POLICY, count=VARIANTS, seed=5, uid=uid)
                texts = [(caption.text, caption.prior or caption.text) for caption in known]
                chosen = (
                    assemble.index.caption_addresses(uid).index(assemble.caption_address(uid, visit))
                    if (not assemble.caption_is_dropped(uid, visit))
                    else None
                )
                text, prior = ("", "") if chosen is None else texts[chosen]
                assert "zorblax" not in prior
                seen["dropped" if chosen is None else "differ" if text != prior else "same"] += 1
                said, meant = [*said, text], [*meant, prior]
            for found, texts in ((batch.conditioning, said), (batch.prior, meant)):
                expected = ToyTower().collate(rows_of(texts), drop=drop)
                for name in expected:
                    assert torch.equal(found[name], expected[name])
    assert min(seen.values()) > 5, seen


def test_without_it_nothing_changes(root, tmp_path):
    """Neither the captions that a visit gets, nor a byte of a cache that holds no priors."""
    fill(root, tmp_path / "plain")
    plain = CacheIndex(tmp_path / "plain")
    index = CacheIndex(root / "cache")
    assert not plain.has_priors and index.has_priors and plain.hash != index.hash
    assert "prior" not in plain.manifest["identity"]
    off = Assembler(plain, ToyTower(), seed=7, caption_dropout=0.3)
    on = assembler(root, encoder_dropout=None)
    for uid in index.uids:
        assert plain.caption_addresses(uid) == index.caption_addresses(uid)
        one, other = (a.batch([uid], [3], global_count=1) for a in (off, on))
        assert one.prior is None and torch.equal(one.conditioning["sum"], other.conditioning["sum"])
    fill(root, tmp_path / "again")
    for name, data in tree(tmp_path / "plain").items():
        if name.startswith("manifest"):
            assert tree(tmp_path / "again")[name] == data


def test_priors_are_encoded_once_and_kept_by_a_prune(root, tmp_path):
    plain = fill(root, tmp_path)
    found = diff(
        ShardSet(root / "shards"), ToyCodec(), ToyTower(), POLICY, out=tmp_path, seed=5, variants=VARIANTS, prior=True
    )
    report = fill(root, tmp_path, prior=True)
    assert report.latents_encoded == 0 and report.texts_encoded == found.texts_missing > 0
    assert fill(root, tmp_path, prior=True).encoded == 0
    assert prune(tmp_path, keep=[report.hash])["texts"][0] == 0
    assert CacheIndex(tmp_path).has_priors
    fill(root, tmp_path)
    assert prune(tmp_path, keep=[plain.hash])["texts"][0] == report.texts_encoded


def test_a_cache_without_priors_says_what_to_run(root, tmp_path):
    fill(root, tmp_path)
    with pytest.raises(ConfigError, match="no captions of the class") as caught:
        Assembler(CacheIndex(tmp_path), ToyTower(), seed=1, prior=True)
    assert "data.cache.prior=true" in str(caught.value.do)


def test_a_broken_prior_is_noticed_and_another_picture_stands_in(root, tmp_path):
    fill(root, tmp_path / "cache", prior=True)
    assemble = Assembler(CacheIndex(tmp_path / "cache"), ToyTower(), seed=7, prior=True)
    index, standing_in = assemble.index, Substituting(assemble)
    images = [
        (uid, visit) for uids in index.buckets("train").values() if len(uids) > 2 for uid in uids for visit in range(9)
    ]
    uid, visit = next(at for at in images if assemble.prior_address(*at) != assemble.caption_address(*at))
    entry = index.texts.locate(assemble.prior_address(uid, visit))
    assert entry is not None
    data = bytearray(entry.path.read_bytes())
    data[entry.begin] ^= 1
    entry.path.write_bytes(data)
    with pytest.raises(DataError, match="not what was written"):
        assemble.batch([uid], [visit], global_count=1)
    assert standing_in.batch([uid], [visit], global_count=1).uids != (uid,)
    entry.path.unlink()
    with pytest.raises(DataError, match="are gone"):
        CacheIndex(tmp_path / "cache")


@pytest.mark.parametrize("ahead", [False, True])
def test_live_captions_have_their_priors(root, ahead):
    tower = ToyTower()
    shards = ShardSet(root / "shards")
    assemble = Assembler(
        CacheIndex(root / "cache"),
        tower,
        seed=7,
        caption_dropout=0.3,
        texts="live",
        shards=shards,
        policy=POLICY,
        prior=True,
    )
    plain = Assembler(
        CacheIndex(root / "cache"), ToyTower(), seed=7, caption_dropout=0.3, texts="live", shards=shards, policy=POLICY
    )
    for uids in assemble.index.buckets(None).values():
        for visit in range(4):
            images = [(uid, visit) for uid in uids]
            if ahead:
                assemble.encode_ahead(images)
                encoded = len(tower.encoded)
            batch = assemble.batch(uids, [visit] * len(uids), global_count=len(uids))
            assert not ahead or len(tower.encoded) == encoded, "all was encoded ahead"
            without = plain.batch(uids, [visit] * len(uids), global_count=len(uids))
            assert batch.prior is not None and torch.equal(batch.conditioning["sum"], without.conditioning["sum"])
            texts = [(assemble.caption(*image), assemble.caption(*image, 1)) for image in images]
            for text, prior in texts:
                assert prior == text.replace("zorblax", "girl")
            expected = ToyTower().collate(rows_of([prior for _, prior in texts]))
            assert torch.equal(batch.prior["words"], expected["words"])
