"""Anima's template: its card's example comes out of a Post, `@` stands before artists only, and parentheses are plain."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from animeflow.app.compose import compose
from animeflow.app.wiring import captions
from animeflow.catalogue.post import Post
from animeflow.core.errors import ConfigError
from animeflow.text.caption import CaptionPolicy, render, sections
from animeflow.text.tags import split_sidecar, to_words

# The full tag example of the model card of circlestone-labs/Anima.
EXAMPLE = (
    "year 2025, newest, normal quality, score_5, highres, safe, 1girl, oomuro sakurako, yuru yuri, @nnn yryr, smile, brown hair, "
    "hat, solo, fur-trimmed gloves, open mouth, long hair, gift box, fang, skirt, red gloves, blunt bangs, gloves, "
    "one eye closed, shirt, brown eyes, santa costume, red hat, skin fang, twitter username, white background, holding bag, "
    "fur trim, simple background, brown skirt, bag, gift bag, looking at viewer, santa hat, ;d, red shirt, box, gift, "
    "fur-trimmed headwear, holding, red capelet, holding box, capelet"
)
HEAD = EXAMPLE[: EXAMPLE.index(", smile")]
GENERAL = [name.replace(" ", "_") for name in EXAMPLE.removeprefix(f"{HEAD}, ").split(", ")]
POST = Post(
    uid=1,
    sha256="0" * 64,
    path="a.png",
    width=1200,
    height=1600,
    bytes=1,
    format="PNG",
    tags={
        "general": ["1girl", *GENERAL],
        "character": ["oomuro_sakurako"],
        "copyright": ["yuru_yuri"],
        "artist": ["nnn_yryr"],
        "meta": ["normal_quality", "score_5", "commentary_request"],
    },
    captions={"en": "A girl winks. She holds a box, a bag, and a gift (red)."},
    rating="general",
    score=3,
    created_at="2025-03-04T00:00:00+00:00",
    source="danbooru",
    source_id="1",
    url=None,
    origin="human",
    truth=None,
    split="train",
)
ANIMA = CaptionPolicy.anima()


def policy(**options) -> CaptionPolicy:
    return CaptionPolicy(**{**{name: getattr(ANIMA, name) for name in ANIMA.facts()}, **options})


def text(facts: dict, seed: int = 0, **options) -> str:
    return render(facts, policy(**{"kinds": {"tags": 1.0}, "tag_dropout": 0.0, **options}), random.Random(seed)).text


def test_the_example_of_the_card_comes_out_of_a_post():
    assert text(POST.as_dict(), shuffle=0.0) == EXAMPLE


def test_shuffling_moves_the_general_tags_behind_a_head_that_stays():
    seen = set()
    for seed in range(20):
        caption = text(POST.as_dict(), seed)
        assert caption.startswith(HEAD + ", ")
        assert sorted(caption.split(", ")) == sorted(EXAMPLE.split(", "))
        seen.add(caption)
    assert len(seen) == 20


@pytest.mark.parametrize(
    ("year", "period"),
    [
        *((1999, "old"), (2010, "old"), (2011, "early"), (2014, "early"), (2015, "mid")),
        *((2017, "mid"), (2018, "recent"), (2020, "recent"), (2021, "newest"), (2031, "newest")),
    ],
)
def test_periods(year, period):
    facts = {"created_at": f"{year}-12-31T23:59:59+00:00"}
    assert text(facts) == f"year {year}, {period}"


def test_no_date_has_no_period_and_no_periods_none_at_all():
    assert text({"created_at": None, "rating": "general"}) == "safe"
    assert text({"created_at": "2025-01-01"}, periods={}) == "year 2025"
    assert CaptionPolicy(periods={"late": 2020}).period_of(2019) is None
    assert "period" not in CaptionPolicy().sections


@pytest.mark.parametrize(
    ("rating", "words"),
    [
        ("general", "safe"),
        ("sensitive", "sensitive"),
        ("questionable", "nsfw"),
        ("explicit", "explicit"),
        ("unknown", ""),
    ],
)
def test_safety_words(rating, words):
    assert text({"rating": rating}) == words


def test_only_ladders_keep_their_underscore():
    tags = {"tags": {"general": ["score_9", "best_quality", "long_hair", "^_^"]}}
    assert text(tags, shuffle=0.0) == "score_9, best quality, long hair, ^_^"


NAMES = st.lists(st.text(st.sampled_from("abc_()'"), min_size=1).filter(lambda name: name.strip("_")), max_size=4)


@given(NAMES, NAMES, NAMES, NAMES, st.integers(0, 3), st.integers(0, 2**32))
def test_the_sign_stands_once_before_every_artist_and_nowhere_else(general, character, series, artists, signs, seed):
    artists = list(dict.fromkeys(artists))
    tags = {"general": general, "character": character, "copyright": series}
    facts = {"tags": {**tags, "artist": ["@" * signs + name for name in artists]}, "rating": "general"}
    written = [word for word in text(facts, seed).split(", ") if word]
    signed = [word for word in written if word.startswith("@")]
    assert sorted(signed) == sorted({"@" + to_words(name) for name in artists})
    assert "".join(written).count("@") == len(signed)


def test_a_sentence_is_kept_whole():
    kinds = set()
    for seed in range(200):
        caption = render(POST.as_dict(), ANIMA, random.Random(seed))
        kinds.add(caption.kind)
        assert ("sentence" in caption.kind) == (POST.captions["en"] in caption.text)
    assert kinds == {"tags", "sentence", "tags+sentence", "sentence+tags"}
    everything_goes = policy(kinds={"sentence+tags": 1.0}, tag_dropout=1.0, protected=())
    assert render(POST.as_dict(), everything_goes, random.Random(0)).text == POST.captions["en"]


def test_parentheses_are_plain_in_training_text():
    names = split_sidecar(r"hatsune miku \(vocaloid\), 1girl, \m/")
    assert names == ["hatsune_miku_(vocaloid)", "1girl", r"\m/"]
    assert text({"tags": {"general": names}}, shuffle=0.0) == r"1girl, hatsune miku (vocaloid), \m/"
    sentence = {"captions": {"en": r"Hatsune Miku \(Vocaloid\) sings (loud)."}}
    assert render(sentence, policy(kinds={"sentence": 1.0}), random.Random(0)).text == (
        "Hatsune Miku (Vocaloid) sings (loud)."
    )


def test_the_preset_is_the_policy():
    assert captions(compose(["text=anima"])) == ANIMA


def test_solo_counts_unless_it_is_a_general_tag():
    facts = {"tags": {"general": ["smile", "solo", "1girl"]}}
    assert sections(facts, CaptionPolicy())["count"] == ["solo", "1girl"]
    assert sections(facts, ANIMA)["count"] == ["1girl"]
    assert sections(facts, ANIMA)["general"] == ["smile", "solo"]


def test_fixed_sections_keep_their_order_inside_a_pool():
    facts = {"tags": {"general": ["1girl", "1boy", *"abcdef"]}}
    pool = CaptionPolicy(order=("count+general",), fixed=("count",))
    captions = {render(facts, pool, random.Random(seed)).text for seed in range(50)}
    assert len(captions) > 40 and all(caption.startswith("1girl, 1boy, ") for caption in captions)


def test_unknown_options_say_so():
    with pytest.raises(ConfigError, match="did you mean 'quality'"):
        CaptionPolicy(fixed=("qualty",))
    with pytest.raises(ConfigError, match="unknown name 'artist'"):
        CaptionPolicy(solo="artist")
