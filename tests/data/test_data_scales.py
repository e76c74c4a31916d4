"""A picture at several scales is several samples of one split, none larger than the picture; at scale 1 nothing is new."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from data_toys import PLAN, draw, make_posts, tree

from animeflow.catalogue.post import Post
from animeflow.core.errors import ConfigError
from animeflow.data.assign import facts_of, select
from animeflow.data.plan import Plan
from animeflow.data.prepare import pixels_hash
from animeflow.data.reader import ShardSet
from animeflow.data.scales import Scaled, at_scales, scale_of, scaled_plans, scaled_uid
from animeflow.data.shard import write_shards
from animeflow.image.bucket import Bucket, BucketPlan
from animeflow.image.resize import fit

LARGE = BucketPlan.explicit(["64x64", "96x64", "64x96"], step=32)
SCALES = [1.0, 0.75, 0.5]


def write(folder: Path, posts: list[Post], **options):
    return write_shards(
        posts, folder.parent.name and LARGE, folder, root=folder.parent / "pictures", max_samples=4, **options
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, list[Post]]:
    """Twenty pictures of 33 to 70 pixels a side, written at three scales."""
    root = tmp_path_factory.mktemp("scales")
    posts = make_posts(root / "pictures", 20)
    write(root / "shards", posts, scales=SCALES, max_upscale=1.1)
    return root, posts


def test_one_scale_is_what_was_always_written(tmp_path):
    posts = make_posts(tmp_path / "pictures", 10)
    options = {"root": tmp_path / "pictures", "max_samples": 4}
    write_shards(posts, PLAN, tmp_path / "plain", **options)
    write_shards(posts, PLAN, tmp_path / "one", scales=[1], **options)
    assert tree(tmp_path / "plain") == tree(tmp_path / "one")
    assert all(a is b for a, b in zip(at_scales(posts, [1.0]), posts, strict=True))
    assert "scale" not in facts_of(posts[0])


def test_every_sample_is_accounted_for_and_no_picture_is_in_two_splits(made):
    root, posts = made
    shards = ShardSet(root / "shards")
    manifest = shards.manifest
    assert manifest.found == len(posts) * len(SCALES) == manifest.written + len(manifest.rejected)
    splits = {post.sha256: post.split for post in posts}
    samples = Counter()
    for uid in shards.uids:
        facts = shards.facts(uid)
        assert 0 <= uid < 2**63 and facts["uid"] == f"{uid:016x}"
        assert shards.split_of(uid) == splits[facts["sha256"]]
        samples[facts["sha256"], facts.get("scale", 1.0)] += 1
    assert set(samples.values()) == {1}, "no picture is there twice at one scale"
    assert {"train", "val"} == {shards.split_of(uid) for uid in shards.uids}


def test_a_picture_is_at_every_scale_that_it_is_large_enough_for(made):
    root, posts = made
    shards = ShardSet(root / "shards")
    written = {(f["sha256"], f.get("scale", 1.0)) for f in map(shards.facts, shards.uids)}
    plans = scaled_plans(LARGE, SCALES, cell=16)
    refused = Counter(rejection.reason for rejection in shards.manifest.rejected)
    for post in posts:
        fits = set()
        for scale in SCALES:
            bucket = plans[scale].assign(post.height, post.width)
            if max(bucket.height / post.height, bucket.width / post.width) <= 1.1:
                fits.add(scale)
        assert {scale for sha, scale in written if sha == post.sha256} == fits
        refused["too_small_for_scale" if fits else "too_small"] -= len(SCALES) - len(fits)
    assert not any(refused.values())
    assert {scale for _, scale in written} == set(SCALES)
    assert "too_small_for_scale" in shards.manifest.reasons


def test_a_sample_is_the_picture_fitted_to_the_bucket_of_its_scale(made):
    root, posts = made
    shards = ShardSet(root / "shards")
    number = {post.sha256: i for i, post in enumerate(posts)}
    plans = scaled_plans(LARGE, SCALES, cell=16)
    for uid in shards.uids:
        facts = shards.facts(uid)
        bucket = plans[facts.get("scale", 1.0)].assign(facts["height"], facts["width"])
        assert shards.bucket_of(uid) == facts["bucket"] == str(bucket)
        pixels = draw(number[facts["sha256"]], facts["height"], facts["width"])
        assert shards.pixels_of(uid) == pixels_hash(fit(pixels, bucket, max_upscale=1.1)[0])


def test_writing_again_changes_nothing_and_another_scale_keeps_what_is_there(tmp_path):
    posts = make_posts(tmp_path / "pictures", 12)
    options = {"root": tmp_path / "pictures", "max_upscale": 9.0}
    write_shards(posts, LARGE, tmp_path / "out", scales=[1.0, 0.5], **options)
    before = tree(tmp_path / "out")
    write_shards(posts, LARGE, tmp_path / "out", scales=[0.5, 1.0], **options)
    assert {k: v for k, v in tree(tmp_path / "out").items() if k != "manifest.json"} == {
        k: v for k, v in before.items() if k != "manifest.json"
    }
    write_shards(posts, LARGE, tmp_path / "out", **options)
    whole = tree(tmp_path / "out")
    assert {name for name in whole if name.endswith(".tar")} < set(before)
    assert all(whole[name] == before[name] for name in whole if name.endswith(".tar"))


def test_an_epoch_shows_every_sample_once(made):
    root, _ = made
    shards = ShardSet(root / "shards")
    buckets: dict[str, list[int]] = {}
    for uid in shards.uids:
        buckets.setdefault(shards.bucket_of(uid), []).append(uid)
    plan = Plan(buckets, seed=0, batch=1)
    assert len(plan) == len(shards.uids)
    seen = Counter(uid for _ in range(3 * len(plan)) for chunk in plan.next_step() for uid in chunk.uids)
    assert set(seen) == set(shards.uids)


def test_uids_of_scales_are_stable_and_apart():
    assert (scaled_uid(7, 1.0), scaled_uid(7, 0.5)) == (7, 6175103061004216260)
    uids = {scaled_uid(uid, scale) for uid in range(500) for scale in SCALES}
    assert len(uids) == 1500 and max(uids) < 2**63


@pytest.mark.parametrize("plan", [BucketPlan.nekofantasia(), BucketPlan.tokens(), BucketPlan.pixels(1024**2)])
def test_smaller_plans_keep_the_shapes_on_the_grid(plan):
    plans = scaled_plans(plan, SCALES, cell=16)
    assert plans[1.0] is plan
    for scale, small in plans.items():
        for bucket in small:
            assert bucket.height % 16 == bucket.width % 16 == 0
        sizes = {Bucket(round(b.height * scale / 16) * 16, round(b.width * scale / 16) * 16) for b in plan}
        assert set(small) == sizes
    square = plans[0.5].assign(1024, 1024)
    assert 0.2 < square.pixels / 1024**2 < 0.3


def test_the_post_of_a_scale_is_its_picture(tmp_path):
    (post,) = make_posts(tmp_path, 1)
    whole, half = at_scales([post], [0.5, 1.0])
    assert whole is post and isinstance(half, Scaled) and scale_of(half) == 0.5
    assert {**facts_of(half), "uid": facts_of(post)["uid"]} == facts_of(post) | {"scale": 0.5}
    kept, rejected = select([whole, half], LARGE, max_upscale=9.0)
    assert sorted(map(str, kept)) == ["32x32", "64x64"] and not rejected


@pytest.mark.parametrize("scales", [[], [0], [1.5], [1.0, 1.0], ["half"], [True], 0.5, "1.0", [0.5, -0.5]])
def test_shares_that_cannot_be_are_refused(tmp_path, scales):
    posts = make_posts(tmp_path, 1)
    with pytest.raises(ConfigError, match=r"data\.shard\.scales"):
        list(at_scales(posts, scales))


def test_scales_that_meet_in_one_size_are_refused(tmp_path):
    posts = list(at_scales(make_posts(tmp_path, 1), [1.0, 0.95]))
    with pytest.raises(ConfigError, match="has already"):
        select(posts, PLAN, max_upscale=9.0)
