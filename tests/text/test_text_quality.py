"""Labels from scores: by rank among posts of one rating and year, from rules that anybody can count after."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animeflow.core.errors import ConfigError
from animeflow.text.caption import CaptionPolicy, render
from animeflow.text.quality import ALL, SCORES, WORDS, Bounds, groups_of

LADDERS = (WORDS, SCORES)


def posts(scores, rating="general", year=2024):
    return [{"score": score, "rating": rating, "created_at": f"{year}-05-06T00:00:00+00:00"} for score in scores]


def test_a_hundred_different_scores_have_the_labels_that_the_rule_says():
    found = posts(range(100))
    bounds = Bounds.measure(found, ladders=LADDERS, smallest=100)
    words = [bounds.labels(post)[0] for post in found]
    # The post with score n leaves n + 1/2 of 100 behind: 9.5 % for score 9, so 10 is the first "low" one.
    assert words == (
        ["worst_quality"] * 10 + ["low_quality"] * 20 + ["normal_quality"] * 30 + ["good_quality"] * 25
        + ["best_quality"] * 10 + ["masterpiece"] * 5
    )  # fmt: skip
    numbers = [int(bounds.labels(post)[1].removeprefix("score_")) for post in found]
    assert numbers == [int((score + 0.5) / 100 // (1 / 9)) + 1 for score in range(100)]


def test_equal_scores_have_equal_labels_and_count_half():
    bounds = Bounds.measure(posts([0] * 60 + [1] * 40), ladders=[{"high": 0.8, "low": 0.3, "any": 0.0}], smallest=10)
    assert bounds.groups[ALL] == {"any": None, "low": 0, "high": 1}  # ranks 0.3 and 0.8
    bounds = Bounds.measure(posts([7] * 50), ladders=[{"high": 0.51, "half": 0.5, "any": 0.0}], smallest=10)
    assert bounds.labels(posts([7])[0]) == ["half"] and "high" not in bounds.groups[ALL]


def test_popular_years_and_ratings_have_no_advantage():
    rng = random.Random(0)
    found = []
    for rating, year, level in (("general", 2010, 5), ("general", 2024, 50), ("explicit", 2024, 500)):
        found += posts([int(rng.expovariate(1 / level)) for _ in range(4000)], rating, year)
    bounds = Bounds.measure(found, ladders=[WORDS], smallest=100)
    shares = Counter((post["rating"], post["created_at"][:4], *bounds.labels(post)) for post in found)
    for rating, year in (("general", "2010"), ("general", "2024"), ("explicit", "2024")):
        assert shares[rating, year, "masterpiece"] / 4000 == pytest.approx(0.05, abs=0.02)
        assert shares[rating, year, "normal_quality"] / 4000 == pytest.approx(0.3, abs=0.06)
    worst_of_the_loved, best_of_the_old = posts([30], "explicit"), posts([30], "general", 2010)
    assert bounds.labels(worst_of_the_loved[0]) == ["worst_quality"]
    assert bounds.labels(best_of_the_old[0]) == ["masterpiece"]


def test_a_small_group_falls_back_to_its_rating_then_to_all_then_to_nothing():
    found = posts(range(100)) + posts(range(1000, 1005), year=1999) + posts(range(5), "explicit")
    bounds = Bounds.measure(found, ladders=[WORDS], smallest=100)
    assert [bounds.group(post) for post in (found[0], found[100], found[105])] == ["general/2024", "general", ALL]
    assert bounds.labels(found[100]) == ["masterpiece"]  # of its year it is the last
    assert bounds.labels({"score": 3, "rating": None}) == ["worst_quality"]
    few = Bounds.measure(found[:50], ladders=[WORDS], smallest=100)
    assert few.groups == {} and few.labels(found[0]) == []


def test_a_post_without_score_has_no_label_and_counts_for_nothing():
    found = posts(range(100))
    unscored = [{"rating": "general", "created_at": "2024-01-01"}, {"score": None}]
    with_them = Bounds.measure(found + unscored * 100, ladders=LADDERS)
    assert with_them == Bounds.measure(found, ladders=LADDERS)
    assert all(with_them.labels(post) == [] for post in unscored)


def test_groups_from_narrow_to_wide():
    assert groups_of({"rating": "explicit", "created_at": "2020-02-02"}) == ["explicit/2020", "explicit", ALL]
    assert groups_of({}) == ["unknown", ALL]


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(-9, 9), st.sampled_from(["general", None]), st.integers(2020, 2021)), max_size=60)
)
def test_a_higher_score_has_no_lower_label_whatever_the_order(rows):
    found = [{"score": score, "rating": rating, "created_at": f"{year}-01-01"} for score, rating, year in rows]
    bounds = Bounds.measure(found, ladders=LADDERS, smallest=5)
    assert bounds == Bounds.measure(found[::-1], ladders=LADDERS, smallest=5)
    assert Bounds.from_facts(json.loads(json.dumps(bounds.facts()))) == bounds
    for rating in ("general", None):
        asked = [{"score": score, "rating": rating, "created_at": "2020-01-01"} for score in range(-12, 13)]
        ranks = [[ladder[x] for ladder, x in zip(LADDERS, bounds.labels(post), strict=False)] for post in asked]
        assert ranks == sorted(ranks) and len({len(rank) for rank in ranks}) == 1


def test_captions_have_the_labels_and_not_those_of_the_source():
    bounds = Bounds.measure(posts(range(100)), ladders=LADDERS)
    facts = {**posts([96])[0], "tags": {"general": ["1girl"], "meta": ["worst_quality", "score_1"]}}
    policy = CaptionPolicy(quality="score", bounds=bounds, shuffle=0.0, order=("quality", "rating", "count"))
    assert render(facts, policy, random.Random(0)).text == "masterpiece, score_9, general, 1girl"
    assert render(facts | {"score": None}, policy, random.Random(0)).text == "general, 1girl"
    unmeasured = CaptionPolicy(quality="score", shuffle=0.0, order=("quality", "count"))
    assert render(facts, unmeasured, random.Random(0)).text == "1girl"
    for quality in ("none", "keep"):
        other = CaptionPolicy(quality=quality, bounds=bounds, shuffle=0.0, order=("quality", "rating", "count"))
        assert "masterpiece" not in render(facts, other, random.Random(0)).text


def test_no_quality_tag_is_in_any_caption_of_the_other_card():
    bounds = Bounds.measure(posts(range(100)), ladders=LADDERS)
    names = [*WORDS, *SCORES, "very_aesthetic", "smile"]
    policy = CaptionPolicy.nekofantasia()
    for seed, score in enumerate(range(0, 100, 5)):
        facts = posts([score])[0] | {"tags": dict.fromkeys(("general", "meta"), names)}
        assert render(facts, policy, random.Random(seed)).text in ("general, smile", "smile, general")
    assert bounds.identity not in str(policy.facts())


def test_bounds_are_a_part_of_the_address_only_where_they_are_used():
    one, other = (Bounds.measure(posts(range(n)), ladders=LADDERS) for n in (100, 101))
    assert CaptionPolicy(bounds=one).facts() == CaptionPolicy().facts()
    scored = [CaptionPolicy(quality="score", bounds=bounds).facts() for bounds in (None, one, other)]
    assert len({str(facts) for facts in scored}) == 3 and scored[1]["bounds"] == one.identity
    assert json.loads(json.dumps(scored)) == scored


def test_labels_need_their_section():
    with pytest.raises(ConfigError, match="stand in no section"):
        CaptionPolicy(quality="score", order=("count", "general"))


def test_a_label_that_begins_at_one_is_out():
    ladder = {**WORDS, "masterpiece": 1.0}
    assert Bounds.measure(posts(range(200)), ladders=[ladder]).labels(posts([199])[0]) == ["best_quality"]
