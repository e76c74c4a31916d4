"""Bucket plans hold what they promise, and every picture finds the nearest shape."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animeflow.core.errors import ConfigError
from animeflow.image.bucket import Bucket, BucketPlan

NINE = {
    "1024x1024", "896x1152", "832x1216", "768x1344", "640x1536", "1152x896", "1216x832", "1344x768", "1536x640",
}  # fmt: skip


def test_nekofantasia_has_exactly_its_nine_sizes():
    assert {str(bucket) for bucket in BucketPlan.nekofantasia()} == NINE
    assert set(BucketPlan.nekofantasia()) <= set(BucketPlan.pixels(1024 * 1024, step=64))


def test_token_plan_is_every_grid_size_with_that_many_tokens():
    plan = BucketPlan.tokens()
    expected = {
        (h * 16, w * 16)
        for h in range(1, 300)
        for w in range(1, 300)
        if 4032 <= h * w <= 4096 and max(h / w, w / h) <= 3
    }
    assert {(bucket.height, bucket.width) for bucket in plan} == expected
    assert len(plan) == 79 and len({bucket.tokens() for bucket in plan}) == 25  # as measured for this set elsewhere
    assert Bucket(1024, 1024) in plan.buckets


@settings(max_examples=25, deadline=None)
@given(st.integers(64, 1100), st.sampled_from([16, 32, 64]), st.sampled_from([1.0, 1.5, 2.0, 4.0]))
def test_pixel_plans_keep_budget_step_and_aspect(side, step, max_aspect):
    plan = BucketPlan.pixels(side * side, step=step, max_aspect=max_aspect)
    found = set(plan)
    for bucket in plan:
        assert bucket.pixels <= side * side
        assert bucket.height % step == 0 and bucket.width % step == 0
        assert max(bucket.height, bucket.width) <= max_aspect * min(bucket.height, bucket.width)
        assert Bucket(bucket.width, bucket.height) in found
    assert Bucket(side // step * step, side // step * step) in plan.buckets


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_no_other_bucket_is_nearer(height, width):
    plan = BucketPlan.tokens()
    aspect = math.log(width / height)
    chosen = abs(plan.assign(height, width).log_aspect - aspect)
    assert chosen <= min(abs(bucket.log_aspect - aspect) for bucket in plan) + 1e-9


def test_assignments():
    plan = BucketPlan.nekofantasia()
    for bucket in plan:
        assert plan.assign(bucket.height, bucket.width) == bucket
        assert plan.assign(bucket.height * 3, bucket.width * 3) == bucket
    assert str(plan.assign(2000, 1990)) == "1024x1024"
    assert str(plan.assign(3508, 2480)) == "1216x832"
    assert str(plan.assign(720, 5842)) == "640x1536"


def test_among_equal_shapes_the_largest_that_needs_no_enlarging():
    plan = BucketPlan.explicit(["512x512", "1024x1024", "256x256"])
    assert [str(plan.assign(side, side)) for side in (2000, 1024, 1023, 512, 300, 100)] == [
        "1024x1024", "1024x1024", "512x512", "512x512", "256x256", "256x256"
    ]  # fmt: skip


def test_names_order_and_latents():
    bucket = Bucket(832, 1216)
    assert str(bucket) == "832x1216" and Bucket.parse("832x1216") == bucket
    assert bucket.latent(8) == (104, 152) and bucket.tokens() == 52 * 76
    assert sorted([Bucket(64, 128), Bucket(64, 64)]) == [Bucket(64, 64), Bucket(64, 128)]
    assert len({Bucket(64, 64), Bucket(64, 64)}) == 1
    assert BucketPlan.explicit([(64, 128), "128x64"]) == BucketPlan.explicit(["64x128", Bucket(128, 64)])
    with pytest.raises(ConfigError, match="stride"):
        Bucket(100, 100).latent(8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: BucketPlan.explicit(["1000x1000"]),
            ["1000x1000 is not a multiple of 16", "1008x1008|992x992", "step"],
        ),
        (lambda: BucketPlan.explicit(["1000x1000"], step=64), ["not a multiple of 64", "1024x1024"]),
        (lambda: BucketPlan.explicit(["8x512"]), ["8x512 is smaller than one step of 16"]),
        (lambda: BucketPlan.explicit(["0x0"]), ["smaller than one step"]),
        (lambda: BucketPlan.explicit([]), ["empty"]),
        (lambda: BucketPlan.explicit(["big"]), ["not HEIGHTxWIDTH"]),
        (lambda: BucketPlan.explicit([(1, 2, 3)]), ["not (height, width)"]),
        (lambda: BucketPlan.pixels(1000, step=64), ["hold no bucket in steps of 64"]),
        (lambda: BucketPlan.pixels(4096, step=16, max_aspect=0.5), ["max_aspect"]),
        (lambda: BucketPlan.tokens(minimum=10, maximum=5), ["10 and 5"]),
        (lambda: BucketPlan.tokens(minimum=4093, maximum=4093), ["empty"]),
    ],
)
def test_impossible_plans_say_what_to_do(make, words):
    with pytest.raises(ConfigError) as caught:
        make()
    for word in words:
        assert any(choice in str(caught.value) for choice in word.split("|"))
