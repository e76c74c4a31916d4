"""Templates: what the model cards show comes out of Posts to the letter, and sections of a person's own stand where they should."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import pytest
from test_text_anima import EXAMPLE, POST
from test_text_caption import FACTS

from animeflow.app.compose import compose
from animeflow.app.wiring import captions
from animeflow.core.errors import ConfigError
from animeflow.core.files import address
from animeflow.text.caption import CaptionPolicy, pieces, render, variants
from animeflow.text.field import Field, fields_of
from animeflow.text.quality import SCORES, WORDS, Bounds


@cache
def preset(name: str, *words: str) -> CaptionPolicy:
    return captions(compose([f"text={name}", *words]))


def tags_only(name: str, **options) -> CaptionPolicy:
    return replace(preset(name), kinds={"tags": 1}, **options)


# Made before there were databases, labels from scores, free sections and lengths: a set without them is not encoded again.
GOLDEN = {
    "nekofantasia": ("7889a2cf35ee67700ceccf93f29b5a4d", "91029ac6e90d23fa1d3cf20f3436d39d"),
    "anima": ("da7d40f6f812beda9fd09802bc4d199b", "12bbf4fade734b3300d69d983cf9e454"),
    "toonworld": ("e2f14ce2c8012103b144cbb9e9cce520", "88ed5db53c768ada3d420f1e673d0de1"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_captions_and_addresses_of_existing_sets_stay(name):
    policy = getattr(CaptionPolicy, name)()
    texts = [caption.text for caption in variants(FACTS, policy, count=100, seed=3, uid=5)]
    assert (address(policy=policy.facts()), address(captions=texts)) == GOLDEN[name]


def test_the_example_of_animas_card_has_its_labels_from_the_score():
    # normal quality and score_5 are both the label of a post in the middle: it leaves 45 to 55 % of its year behind.
    scores = [{"score": score, "rating": "general", "created_at": "2025-01-01"} for score in range(-47, 53)]
    bounds = Bounds.measure(scores, ladders=(WORDS, SCORES))
    policy = tags_only("anima", shuffle=0.0, tag_dropout=0.0, quality="score", bounds=bounds)
    facts = POST.as_dict()
    facts["tags"] = facts["tags"] | {"meta": ["commentary_request"]}  # no quality tag but what follows from its score
    assert render(facts, policy, random.Random(0)).text == EXAMPLE


def test_tags_as_the_other_card_writes_them():
    facts = {
        "tags": {"general": ["1girl", "looking_at_viewer", "^_^"], "meta": ["oil_painting_(medium)", "masterpiece"]},
        "rating": "sensitive", "height": 2400, "width": 1000,
    }  # fmt: skip
    still = tags_only("nekofantasia", shuffle=0.0)
    assert render(facts, still, random.Random(0)).text == (
        "oil painting (medium), absurdres, highres, sensitive, 1girl, looking at viewer, ^_^"
    )
    negative = {"tags": {"general": ["lowres", "pixelated", "downscaled", "artist_name"]}}
    assert render(negative, still, random.Random(0)).text == "lowres, pixelated, downscaled, artist name"


def test_natural_language_first():
    policy = replace(preset("natural"), shuffle=0.0, tag_dropout=0.0)
    kinds = {render(POST.as_dict(), policy, random.Random(seed)).kind for seed in range(100)}
    assert kinds == {"sentence", "sentence+tags"}
    text = next(
        caption.text
        for caption in (render(POST.as_dict(), policy, random.Random(seed)) for seed in range(100))
        if caption.kind == "sentence+tags"
    )
    assert text.startswith(
        "A girl winks. She holds a box, a bag, and a gift (red). highres, general, 1girl, solo, oomuro sakurako, "
        "yuru yuri, nnn yryr, smile, brown hair"
    )


@pytest.mark.parametrize("name", ["danbooru", "anima", "nekofantasia", "natural"])
@pytest.mark.parametrize("rating", ["general", "sensitive", "questionable", "explicit"])
def test_every_rating_yields_a_caption_with_its_word(name, rating):
    policy = tags_only(name, section_dropout={"rating": 0.0})
    word = policy.rating_words[rating]
    for seed in range(20):
        tags = pieces({"rating": rating, "tags": {"general": ["smile"]}}, policy, random.Random(seed))[1]
        assert ("rating", word) in tags


MEDIUMS = {"3d": "3d", "photo_(medium)": "photo (medium)", "anime_screenshot": "anime screenshot"}


@pytest.mark.parametrize("name", ["danbooru", "anima", "nekofantasia", "natural"])
@pytest.mark.parametrize("medium", MEDIUMS)
@pytest.mark.parametrize("category", ["general", "meta"])
def test_every_medium_is_admitted_and_named(name, medium, category):
    policy = tags_only(name, tag_dropout=1.0, tag_dropout_of={medium: 0.0})
    facts = {"tags": {"general": ["smile"], category: [medium]}}
    assert {render(facts, policy, random.Random(seed)).text for seed in range(20)} == {MEDIUMS[medium]}


def test_where_a_picture_comes_from_can_be_a_section():
    medium = {"from": "source", "words": {"pixiv": "illustration", "films": "screenshot"}}
    extra = fields_of({"medium": medium, "light": "truth.light"})
    policy = CaptionPolicy(extra=extra, order=("medium", "count+light", "general"), shuffle=0.0)
    facts = {
        "source": "films",
        "truth": {"light": ["rim light", "back light"]},
        "tags": {"general": ["1girl", "smile"]},
    }
    caption, parts = pieces(facts, policy, random.Random(0))
    assert caption.text == "screenshot, 1girl, rim light, back light, smile"
    assert ("medium", "screenshot") in parts and ("light", "rim light") in parts
    assert render(facts | {"source": "elsewhere", "truth": None}, policy, random.Random(0)).text == "1girl, smile"
    assert render({}, policy, random.Random(0)).text == ""
    assert Field("truth.light.deep").read(facts) == [] and Field("score").read({"score": 0}) == ["0"]


def test_a_section_of_ones_own_obeys_the_options():
    extra = fields_of({"light": "light"})
    facts = {"light": ["a", "b", "c"], "tags": {"general": ["x", "y"]}}
    options = {"extra": extra, "order": ("light+general",), "tag_dropout": 1.0}
    assert render(facts, CaptionPolicy(**options, protected=("light",)), random.Random(3)).text in (
        *("a, b, c", "a, c, b", "b, a, c", "b, c, a", "c, a, b", "c, b, a"),
    )
    fixed = CaptionPolicy(**options, protected=("light",), fixed=("light",))
    assert render(facts, fixed, random.Random(3)).text == "a, b, c"
    kept = CaptionPolicy(**options, section_dropout={"light": 0.0})
    assert sorted(render(facts, kept, random.Random(0)).text.split(", ")) == ["a", "b", "c"]


def test_sections_of_ones_own_are_part_of_the_address_and_of_the_config():
    found = preset("danbooru", "text.extra={medium: source}", "text.order=[medium, count, general]")
    assert found.extra == {"medium": Field("source")}
    assert found.facts()["extra"] == {"medium": {"from": "source", "words": {}}}
    for extra, words in (
        ({"medium": 3}, "names no fact"),
        ({"medium": {"from": "source", "wrods": {}}}, "did you mean 'words'"),
    ):
        with pytest.raises(ConfigError, match=words):
            fields_of(extra)
    for name in ("artist", "a+b", "unplaced"):
        with pytest.raises(ConfigError, match="is a section of its own or in no order"):
            CaptionPolicy(extra={name: Field("source")})


WATERMARKS = ("watermark", "artist_name", "signature", "twitter_username")


def test_text_in_a_picture_survives_dropout_more_often_than_others_if_asked():
    names = [*WATERMARKS, "smile", "long_hair", "patreon_username"]
    rates = {"watermark": 0.02, "artist_name": 0.02, "signature": 0.02, "*_username": 0.3, "twitter_username": 0.0}
    policy = CaptionPolicy(tag_dropout=0.5, tag_dropout_of=rates)
    lost = dict.fromkeys(names, 0)
    for seed in range(4000):
        text = render({"tags": {"general": names}}, policy, random.Random(seed)).text.split(", ")
        for name in names:
            lost[name] += name.replace("_", " ") not in text
    for name, share in {
        "watermark": 0.02,
        "signature": 0.02,
        "patreon_username": 0.3,
        "smile": 0.5,
        "long_hair": 0.5,
    }.items():
        assert lost[name] / 4000 == pytest.approx(share, abs=0.03)
    assert lost["twitter_username"] == 0  # of two patterns the longer counts
    protected = CaptionPolicy(tag_dropout_of={"*": 1.0}, protected=("general",))
    assert render({"tags": {"general": names}}, protected, random.Random(0)).text.count(",") == len(names) - 1
    with pytest.raises(ConfigError, match="not a probability"):
        CaptionPolicy(tag_dropout_of={"x": 2.0})


def words(limit: int):
    return lambda text: len(text.replace(".", " . ").split()) <= limit


def test_a_caption_is_made_to_fit_by_leaving_out_general_tags_from_the_end():
    facts = {"tags": {"general": ["1girl", *"abcdefgh"], "artist": ["kei"]}}
    policy = CaptionPolicy(order=("count", "general", "artist"), shuffle=0.0, fit=("clip",))
    caption = render(facts, policy, random.Random(0), fits=words(5))
    assert (caption.text, caption.shortened) == ("1girl, a, b, c, kei", 5)
    assert render(facts, policy, random.Random(0), fits=words(10)).shortened == 0
    least = render(facts, policy, random.Random(0), fits=words(1))
    assert (least.text, least.shortened) == ("1girl, kei", 8)  # it does not fit, and nothing else is taken away
    assert render(facts, policy, random.Random(0)).text == "1girl, a, b, c, d, e, f, g, h, kei"
    assert render(facts, CaptionPolicy(shuffle=0.0), random.Random(0), fits=words(1)).shortened == 0
    assert "fit" not in CaptionPolicy().facts() and policy.facts()["fit"] == ["clip"]


def test_a_sentence_is_kept_whole_when_a_caption_is_too_long():
    facts = {"tags": {"general": list("abcd")}, "captions": {"en": "One two three."}}
    for kind in ("tags+sentence", "sentence+tags"):
        policy = CaptionPolicy(kinds={kind: 1}, fit=("clip",), shuffle=0.0)
        caption = render(facts, policy, random.Random(0), fits=words(4))
        assert (caption.text, caption.kind, caption.shortened) == ("One two three.", "sentence", 4)
    kept = CaptionPolicy(kinds={"tags+sentence": 1}, fit=("clip",), shuffle=0.0)
    assert render(facts, kept, random.Random(0), fits=words(7)).text == "a, b. One two three."


def test_fitting_draws_nothing():
    facts = POST.as_dict()
    policy = preset("anima")
    fitting = replace(policy, fit=("clip",))
    for seed in range(30):
        whole, short = (
            render(facts, policy, random.Random(seed)),
            render(facts, fitting, random.Random(seed), fits=words(40)),
        )
        assert short.text in whole.text or short.shortened
        tags = set(short.text.split(", "))
        assert len(tags - set(whole.text.split(", "))) <= 1  # the one before the sentence
