"""Exposures are what was asked for: in every component, in every group, under every cap, in any order of the pictures."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_toys import PLAN, make_posts
from hypothesis import given, settings
from hypothesis import strategies as st

from animeflow.core.errors import ConfigError, DataError
from animeflow.data.conditions import fits
from animeflow.data.exposure import Exposures, columns, exposures
from animeflow.data.exposure_settings import settings_of
from animeflow.data.facts import FILE, SCHEMA, facts_of, table_of
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards


def post(**facts):
    tags = {name: facts.pop(name) for name in ("general", "character", "artist", "copyright", "meta") if name in facts}
    return {"source": "danbooru", "origin": "human", "rating": "general", "tags": tags, **facts}


def made(posts, node, **options) -> Exposures:
    return exposures(table_of(enumerate(posts)), settings_of(node), **options)


def drawings(sizes: dict[str, int], **facts) -> list[dict]:
    return [post(character=[name], **facts) for name, number in sizes.items() for _ in range(number)]


# -- conditions --------------------------------------------------------------------------------------------------------

POSTS = [
    post(general=["1girl", "3d"], generator="novelai v3", origin="ai", score=5, created_at="2021-03-01T00:00:00Z"),
    post(general=["1girl"], character=["hatsune_miku"], meta=["highres"], score=90, created_at="2015-01-01"),
    post(source="photos", general=["3d_(medium)"], rating="explicit", licence="CC0"),
    post(source="pixiv", artist=["wlop"], generator="sdxl", origin="ai_assisted", score=20),
    post(source="photos"),
]  # fmt: skip


@pytest.mark.parametrize(
    "where, rows",
    [
        ({"source": "danbooru"}, [0, 1]),
        ({"source": ["danbooru", "p*v"]}, [0, 1, 3]),
        ({"origin": "ai"}, [0]),
        ({"origin": "ai*"}, [0, 3]),
        ({"generator": None}, [1, 2, 4]),
        ({"generator": ["*v3", None]}, [0, 1, 2, 4]),
        ({"tags": "3d*"}, [0, 2]),
        ({"tags": ["3d", "highres"]}, [0, 1]),
        ({"general": "highres"}, []),
        ({"meta": "highres"}, [1]),
        ({"tags": None}, [4]),
        ({"character": None}, [0, 2, 3, 4]),
        ({"source": "photos", "rating": "explicit"}, [2]),
        ({"source": "photos", "not": {"tags": "3d*"}}, [4]),
        ({"any": [{"artist": "wlop"}, {"licence": "CC0"}]}, [2, 3]),
        ({"score": {"min": 20}}, [1, 3]),
        ({"score": 5}, [0]),
        ({"score": None}, [2, 4]),
        ({"year": {"min": 2015, "max": 2020}}, [1]),
        ({"tags": "3."}, []),  # only `*` is a sign
    ],
)
def test_a_condition_fits_what_it_says(where, rows):
    table = table_of(enumerate(POSTS))
    assert np.flatnonzero(fits(table, where, "here")).tolist() == rows
    needed = columns(settings_of({"weights": [{"where": where, "exposure": 1}]}))
    assert np.flatnonzero(fits(table.select([*needed]), where, "here")).tolist() == rows


@pytest.mark.parametrize(
    "where, says",
    [
        ({"sorce": "x"}, "did you mean 'source'"),
        ({"not": {"tag": "x"}}, "did you mean 'tags'"),
        ({"score": "high"}, "no number and no range"),
        ({"score": {"mn": 3}}, "no number and no range"),
        ({"rating": 3}, "no word"),
        ({}, "says nothing"),
        ({"any": {}}, "no list"),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused(where, says):
    with pytest.raises(ConfigError, match=says):
        settings_of({"weights": [{"where": where, "exposure": 1}]})


# -- weights -----------------------------------------------------------------------------------------------------------


def test_a_weight_of_a_quarter_is_a_quarter_and_weights_multiply_in_any_order():
    posts = [post(origin="ai" if n % 2 else "human", source="a" if n % 3 else "b") for n in range(600)]
    ai, b = ({"where": {"origin": "ai"}, "exposure": 0.25}, {"where": {"source": "b"}, "exposure": 2})
    one, other = made(posts, {"weights": [ai, b]}), made(posts, {"weights": [b, ai]})
    wanted = [(0.25 if n % 2 else 1) * (1 if n % 3 else 2) for n in range(600)]
    assert one.times.tolist() == other.times.tolist() == wanted
    visits = sum(one.turns(0).visits(epoch) for epoch in range(10))
    for value in (0.25, 0.5, 1, 2):
        mine = np.array(wanted) == value
        assert visits[mine].mean() == pytest.approx(10 * value, rel=0.02)


def test_a_loss_weight_changes_no_exposure():
    shown = made(POSTS, {"loss": [{"where": {"origin": "ai"}, "weight": 0.25}]})
    assert shown.times.tolist() == [1] * 5 and shown.loss.tolist() == [0.25, 1, 1, 1, 1]


def test_origins_weigh_as_conditions_do_and_need_no_picture():
    shown = exposures(table_of(enumerate(POSTS)), settings_of({}, origins={"ai": 0.25, "own": 0.5}))
    assert shown.times.tolist() == [0.25, 1, 1, 1, 1]
    assert shown.loss is None


def test_repeats_and_weights_multiply():
    shown = made(POSTS, {"weights": [{"where": {"source": "photos"}, "exposure": 0.5}]}, repeats={2: 3, 0: 2})
    assert shown.times.tolist() == [2, 1, 1.5, 1, 0.5]


# -- balance -----------------------------------------------------------------------------------------------------------

groups = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 60), min_size=1)


@given(groups, st.floats(0, 1), st.integers(1, 6), st.floats(0.05, 1), st.integers(0, 30))
@settings(max_examples=80, deadline=None)
def test_a_balanced_set_is_as_long_as_it_was_and_within_its_bounds(sizes, alpha, cap, floor, without):
    posts = drawings(sizes) + [post() for _ in range(without)]
    balance = {"by": "character", "alpha": alpha, "cap": cap, "floor": floor}
    shown = made(posts, {"balance": balance})
    assert shown.times.sum() == pytest.approx(len(posts))
    assert floor * (1 - 1e-9) <= shown.times.min() and shown.times.max() <= cap
    assert (shown.times[len(posts) - without :] == 1).all()
    start, free = 0, set()
    for number in sizes.values():
        mine = shown.times[start : start + number]
        assert np.ptp(mine) == 0
        if floor * (1 + 1e-6) < mine[0] < cap * (1 - 1e-6):
            free.add(round(math.log(mine[0] * number**alpha), 6))
        start += number
    assert len(free) <= 1 or max(free) - min(free) < 1e-5, "between the bounds it is count^-alpha times one number"


def test_equal_exposure_of_all_groups_at_alpha_one():
    shown = made(drawings({"a": 90, "b": 30, "c": 60}), {"balance": {"by": "character", "alpha": 1, "floor": 0.01}})
    assert np.add.reduceat(shown.times, [0, 90, 120]) == pytest.approx([60, 60, 60])


def test_the_rarest_of_its_groups_speaks_for_a_picture():
    posts = [post(character=["miku"])] * 20 + [post(character=["miku", "rin", "rin"])] * 2 + [post(artist=["wlop"])] * 5
    balance = {"alpha": 1, "floor": 0.01, "cap": 100}
    times = made(posts, {"balance": {"by": "character", **balance}}).times
    assert times[20] / times[0] == pytest.approx(22 / 2) and times[-1] == 1
    times = made(posts, {"balance": {"by": ["character", "artist"], **balance}}).times
    assert times[-1] / times[0] == pytest.approx(22 / 5)
    assert made(posts, {"balance": {"by": "mi*u", **balance}}).times.max() == pytest.approx(1), (
        "one group is no imbalance"
    )


def test_every_group_comes_within_two_percent_of_what_is_due_and_no_picture_above_its_cap():
    """W3, over ten epochs."""
    rng = np.random.default_rng(0)
    sizes = {f"c{n}": int(size) for n, size in enumerate(3 + rng.pareto(0.9, 60) * 10) if size < 3000}
    shown = made(drawings(sizes), {"balance": {"by": "character", "alpha": 0.5, "cap": 4}})
    turns, total = shown.turns(seed=5), np.zeros(len(shown.uids), dtype=np.int64)
    for epoch in range(10):
        visits = turns.visits(epoch)
        assert visits.max() <= 4
        assert abs(visits.sum() - len(shown.uids)) < 0.01 * len(shown.uids)
        total += visits
    starts = np.cumsum([0, *list(sizes.values())[:-1]])
    came, due = np.add.reduceat(total, starts), 10 * np.add.reduceat(shown.times, starts)
    large = due >= 50  # a visit is whole: one more or less of fewer is above 2 % by itself
    assert large.sum() > 30
    assert np.abs(came / due - 1)[large].max() < 0.02
    assert np.abs(total - 10 * shown.times).max() < 1


# -- mixture -----------------------------------------------------------------------------------------------------------


def parts(**numbers) -> list[dict]:
    return [post(source=name) for name, number in numbers.items() for _ in range(number)]


def test_five_to_point_eight_is_realised_in_every_epoch():
    """A2 and W37: within 1 % of what was asked."""
    mixture = {"anime": {"share": 5, "where": {"source": "anime"}}, "photos": {"share": 0.8, "where": {"source": "p*"}}}
    shown = made(parts(anime=3000, photos=1100), {"mixture": mixture})
    turns = shown.turns(seed=1)
    assert shown.times.sum() == pytest.approx(4100)
    for epoch in range(12):
        visits = turns.visits(epoch)
        realised = visits[shown.component == 0].sum() / visits[shown.component == 1].sum()
        assert realised == pytest.approx(5 / 0.8, rel=0.01)
    (anime, photos) = shown.lines(seed=1)
    assert (anime.name, anime.pictures, anime.least, anime.most) == ("anime", 3000, 1, 2)
    assert (photos.name, photos.pictures, photos.least, photos.most) == ("photos", 1100, 0, 1)
    assert photos.asked == pytest.approx(0.8 / 5.8) and photos.realised == pytest.approx(photos.asked, rel=0.01)


def test_others_keep_what_they_have_or_take_a_share():
    posts, two = parts(a=100, b=100, c=50), {"share": 3, "where": {"source": "a"}}
    mixture = {"a": two, "b": {"share": 1, "where": {"source": "b"}}}
    shown = made(posts, {"mixture": mixture})
    assert shown.names == ("a", "b", "others")
    assert np.add.reduceat(shown.times, [0, 100, 200]) == pytest.approx([150, 50, 50])
    shown = made(posts, {"mixture": {"others": {"share": 1}, **mixture}})
    assert np.add.reduceat(shown.times, [0, 100, 200]) == pytest.approx([150, 50, 50])
    shown = made(posts, {"mixture": {**mixture, "others": {"share": 0}}})
    assert np.add.reduceat(shown.times, [0, 100, 200]) == pytest.approx([187.5, 62.5, 0])
    with pytest.raises(ConfigError, match="none is left for 'others'"):
        made(posts[:200], {"mixture": {**mixture, "others": {"share": 1}}})


def test_the_component_of_any_picture_has_a_name():
    mixture = {"three": {"share": 1, "where": {"tags": "3d*"}}, "boorus": {"share": 1, "where": {"source": "danbooru"}}}
    shown = made(POSTS, {"mixture": mixture})
    assert shown.named(np.array([4, 0, 99, 1, 2])) == ["others", "three", None, "boorus", "three"]


def test_a_product_of_weights_beyond_all_sense_is_told():
    weights = [{"where": {"source": "danbooru"}, "exposure": 200}] * 2
    with pytest.raises(ConfigError, match="40,000 times in an epoch"):
        made(POSTS, {"weights": weights})
    assert made(POSTS, {"weights": weights, "cap": 9}).times.max() == 9


def test_what_nothing_can_be_counted_by_is_told_without_a_guess_that_is_the_same_word():
    plain = [{"tags": {}, "source": "a"}, {"tags": {}, "source": "a"}]
    for by, hint in (("character", False), ("charakter", True)):
        with pytest.raises(ConfigError, match="anything to be counted by") as told:
            made(plain, {"balance": {"by": by, "alpha": 0.5}})
        assert ("did you mean" in str(told.value)) is hint


def test_a_picture_is_in_the_first_component_that_fits():
    mixture = {"three": {"share": 1, "where": {"tags": "3d*"}}, "boorus": {"share": 1, "where": {"source": "danbooru"}}}
    assert made(POSTS, {"mixture": mixture}).component.tolist() == [0, 1, 0, 2, 2]
    mixture = dict(reversed(mixture.items()))
    assert made(POSTS, {"mixture": mixture}).component.tolist() == [0, 0, 1, 2, 2]
    swallowed = {
        "all": {"share": 1, "where": {"not": {"source": "x"}}},
        "three": {"share": 1, "where": {"tags": "3d*"}},
    }
    with pytest.raises(ConfigError, match="2 pictures of the component 'three' are in components before it"):
        made(POSTS, {"mixture": swallowed})


def test_inside_a_component_weights_and_balance_keep_their_say_under_the_cap():
    posts = drawings({"a": 90, "b": 10}, source="x") + drawings({"c": 50}, source="y")
    node = {
        "balance": {"by": "character", "alpha": 1, "cap": 3, "floor": 0.1},
        "mixture": {"x": {"share": 1, "where": {"source": "x"}}, "y": {"share": 1, "where": {"source": "y"}}},
    }
    shown = made(posts, node)
    assert shown.times[:100].sum() == pytest.approx(75) and shown.times[100:].sum() == pytest.approx(75)
    assert shown.times.max() <= 3 and shown.times[95] > 2 * shown.times[5]
    with pytest.raises(
        ConfigError, match=r"y should be 90.0%.*is 83.3% .*\n.*\n.*no picture comes more than 2 times"
    ) as told:
        node = {"mixture": {"x": {"share": 1, "where": {"source": "x"}}, "y": {"share": 9, "where": {"source": "y"}}}}
        made(posts[:70] + posts[100:], node | {"cap": 2})
    assert "smaller share" in told.value.do


@given(st.lists(st.integers(1, 30), min_size=2, max_size=4), st.lists(st.floats(0.1, 9), min_size=4, max_size=4))
@settings(max_examples=50, deadline=None)
def test_shares_hold_and_the_order_of_the_pictures_means_nothing(sizes, shares):
    posts = parts(**{f"s{n}": size for n, size in enumerate(sizes)})
    mixture = {f"s{n}": {"share": shares[n], "where": {"source": f"s{n}"}} for n in range(len(sizes))}
    node = {"mixture": mixture, "weights": [{"where": {"source": "s1"}, "exposure": 0.3}]}
    shown = made(posts, node)
    got = np.bincount(shown.component, weights=shown.times) / shown.times.sum()
    assert got == pytest.approx(np.array(shares[: len(sizes)]) / sum(shares[: len(sizes)]))
    shuffled = table_of(np.random.default_rng(0).permutation(np.array(list(enumerate(posts)), dtype=object)).tolist())
    again = exposures(shuffled, settings_of(node))
    for name in ("uids", "times", "component"):
        assert (getattr(again, name) == getattr(shown, name)).all()
    assert (again.turns(3).phases == shown.turns(3).phases).all()


@pytest.mark.parametrize(
    "node, says",
    [
        ({"mixtur": {}}, "did you mean 'mixture'"),
        ({"mixture": {"a": {"share": 1}}}, "write a:"),
        ({"mixture": {"a": {"share": 1, "wher": {}}}}, "did you mean 'where'"),
        ({"mixture": {"others": {"share": 1, "where": {"source": "a"}}}}, "the rest being its pictures"),
        ({"mixture": {"a": {"share": -1, "where": {"source": "danbooru"}}}}, "no number of 0 or above"),
        ({"mixture": {"a": {"share": 1, "where": {"source": "danboru"}}}}, "fits .*did you mean 'danbooru'"),
        ({"weights": [{"where": {"character": "hatsune_mku"}, "exposure": 2}]}, "did you mean 'hatsune_miku'"),
        ({"weights": [{"where": {"source": "danbooru"}, "weight": 2}]}, "unknown setting 'weight'"),
        ({"weights": {"where": {"source": "danbooru"}, "exposure": 2}}, "no list"),
        ({"weights": [{"where": {"not": {"source": "x"}}, "exposure": 0}]}, "every one has a weight of 0"),
        ({"balance": {"by": "caracter", "alpha": 1}}, "did you mean 'character'"),
        ({"balance": {"by": "character"}}, "has no 'alpha'"),
        ({"balance": {"by": "character", "alpha": 2}}, "not between 0 and 1"),
        ({"balance": {"by": "character", "alpha": 1, "cap": 2.5}}, "no whole number"),
        ({"balance": {"by": "character", "alpha": 1, "floor": 0}}, "floor=0.0"),
        ({"cap": 0}, "no whole number of 1 or above"),
    ],
)
def test_what_cannot_be_is_refused_in_words(node, says):
    with pytest.raises(ConfigError, match=says):
        made(POSTS, node)


def test_nothing_said_is_nothing():
    assert not settings_of({}).says_something and not settings_of(None).says_something
    assert not settings_of({"mixture": {}, "weights": [], "cap": None}).says_something
    assert settings_of({"cap": 3}).says_something


# -- facts -------------------------------------------------------------------------------------------------------------


def test_facts_are_read_out_of_the_shards_once(tmp_path):
    posts = make_posts(tmp_path / "p", 12)
    write_shards(posts, PLAN, tmp_path / "shards", root=tmp_path / "p")
    shards = ShardSet(tmp_path / "shards")
    table = facts_of(shards, {"source", "general"}, uids=shards.uids)
    by_uid = {p.uid: p for p in posts}
    assert table.column_names == ["uid", "source", "general"] and table["uid"].to_pylist() == sorted(by_uid)
    assert table["general"].to_pylist() == [by_uid[uid].tags["general"] for uid in sorted(by_uid)]
    kept = (tmp_path / "shards" / FILE).stat().st_mtime_ns
    some = shards.uids[3:7]
    assert facts_of(shards, {"general"}, uids=some[::-1])["uid"].to_pylist() == some
    assert (tmp_path / "shards" / FILE).stat().st_mtime_ns == kept
    with pytest.raises(DataError, match="in none of the shards"):
        facts_of(shards, {"source"}, uids=[*some, 5])
    (tmp_path / "shards" / FILE).write_bytes(b"PAR1 or not")
    assert facts_of(shards, {"source", "general"}, uids=shards.uids).equals(table)
    write_shards(posts[:6], PLAN, tmp_path / "shards", root=tmp_path / "p")  # other pictures: the table is of others
    fewer = ShardSet(tmp_path / "shards")
    assert facts_of(fewer, {"source"}, uids=fewer.uids)["uid"].to_pylist() == fewer.uids
    assert set(SCHEMA.names) >= {"uid", "source", "generator", "year", "character"}
    assert isinstance(table, pa.Table) and Counter(table["source"].to_pylist()) == {"test": 12}


def test_tags_are_kept_in_columns_that_hold_more_than_two_gigabytes(tmp_path):
    """What five million pictures have: a plain column of Arrow cannot be put into the order of the uids then."""
    write_shards(make_posts(tmp_path / "p", 2), PLAN, tmp_path / "shards", root=tmp_path / "p")
    shards = ShardSet(tmp_path / "shards")
    before = facts_of(shards, {"general"}, uids=shards.uids)
    assert pa.types.is_large_list(before.schema.field("general").type)
    old = pq.read_table(tmp_path / "shards" / FILE)
    plain = old.set_column(old.schema.get_field_index("general"), "general", old["general"].cast(pa.list_(pa.string())))
    for older in (plain, old.drop_columns("general")):  # as an earlier version kept them
        pq.write_table(older.replace_schema_metadata(old.schema.metadata), tmp_path / "shards" / FILE)
        assert facts_of(shards, {"general"}, uids=shards.uids).equals(before)
