"""Captions of concepts: the trigger is first whatever is drawn, what it means is pruned, and the class can stand in its place."""

from __future__ import annotations

import itertools
import random

import pytest
from test_text_caption import FACTS

from animeflow.core.errors import ConfigError
from animeflow.text.caption import CaptionPolicy, render, variants
from animeflow.text.concept import Concept, concepts_of

EILEEN = Concept("eileen", "girl", ("*_hair", "*_eyes"))
MINE = {
    "source": "me",
    "tags": {
        "general": ["1girl", "solo", "red_hair", "green_eyes", "smile", "school_uniform", "outdoors", "girl"],
        "character": ["eileen_(the_question)", "lucy"],
        "copyright": ["the_question"],
        "artist": ["someone"],
        "meta": [],
    },
    "captions": {"en": "A girl smiles at the viewer.", "ja": "少女が微笑む。"},
}
POLICIES = [
    CaptionPolicy(concepts={"me": EILEEN}),
    CaptionPolicy(concepts={"me": EILEEN}, keep_first=3, tag_dropout=0.5),
    CaptionPolicy(concepts={"me": EILEEN}, tag_dropout=1.0, protected=(), kinds={"tags": 1, "sentence": 1}),
    CaptionPolicy(
        concepts={"me": EILEEN},
        kinds={"tags": 1, "sentence": 1, "tags+sentence": 1, "sentence+tags": 1},
        languages={"en": 1, "ja": 1},
        order=("general+character+count",),
    ),
]


def drawn(policy: CaptionPolicy, facts: dict = MINE, number: int = 200):
    return variants(facts, policy, count=number, seed=1, uid=5)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_trigger_opens_every_caption_and_is_said_once(policy):
    for caption in drawn(policy):
        assert caption.text.startswith("eileen")
        assert caption.text.count("eileen") == 1  # nor as the tag eileen_(the_question)
        assert "hair" not in caption.text and "eyes" not in caption.text


@pytest.mark.parametrize("policy", POLICIES)
def test_the_prior_is_the_same_draw_with_the_class(policy):
    for caption in drawn(policy):
        rest = caption.text.removeprefix("eileen, ")
        if caption.kind == "tags":
            kept = [tag for tag in rest.split(", ") if tag != "girl"]
            assert caption.prior.split(", ") == ["girl", *kept]
        else:
            assert caption.prior is not None and caption.prior.startswith("girl, ")
            assert "eileen" not in caption.prior


def test_only_what_the_trigger_means_is_pruned():
    whole = CaptionPolicy(shuffle=0.0)
    about = CaptionPolicy(shuffle=0.0, concepts={"me": EILEEN})
    all_tags = render(MINE, whole, random.Random(0)).text.split(", ")
    tags = render(MINE, about, random.Random(0)).text.split(", ")
    assert tags == ["eileen", *(t for t in all_tags if t not in ("red hair", "green eyes", "eileen (the question)"))]
    assert "lucy" in tags  # another character keeps her tag


def test_a_sentence_that_names_the_trigger_is_left_as_it_is():
    policy = CaptionPolicy(concepts={"me": EILEEN}, kinds={"sentence": 1})
    named = {**MINE, "captions": {"en": "Eileen, a girl, waves. Behind her: Eileens."}}
    caption = render(named, policy, random.Random(0))
    assert caption.text == "Eileen, a girl, waves. Behind her: Eileens."
    assert caption.prior == "girl, a girl, waves. Behind her: Eileens."  # a longer word is another word
    spaced = CaptionPolicy(concepts={"me": Concept("eileen_two", "girl")}, kinds={"sentence": 1})
    caption = render({**MINE, "captions": {"en": "Here is eileen two."}}, spaced, random.Random(0))
    assert (caption.text, caption.prior) == ("Here is eileen two.", "Here is girl.")


def test_tags_and_sentence_say_the_trigger_at_the_front_of_the_whole():
    for kind in ("tags+sentence", "sentence+tags"):
        policy = CaptionPolicy(concepts={"me": EILEEN}, kinds={kind: 1}, shuffle=0.0)
        caption = render(MINE, policy, random.Random(0))
        assert caption.kind == kind
        assert caption.text.startswith("eileen, ") and caption.prior.startswith("girl, ")
        assert "A girl smiles at the viewer." in caption.text and "smile, school uniform" in caption.text


def test_a_picture_that_nobody_described_is_its_trigger_and_class():
    policy = CaptionPolicy(concepts={"me": EILEEN}, kinds={"tags": 1, "sentence": 1}, tag_dropout=0.5)
    bare = {"source": "me", "width": 4000, "height": 4000, "rating": "unknown", "tags": {"general": []}, "captions": {}}
    assert {(c.text, c.prior) for c in drawn(policy, bare)} == {("eileen, girl", "girl")}
    nameless = CaptionPolicy(concepts={"me": Concept("eileen")})
    assert {(c.text, c.prior) for c in drawn(nameless, bare)} == {("eileen", "")}
    style = CaptionPolicy(concepts={"me": Concept(None, "watercolor")})
    assert {(c.text, c.prior) for c in drawn(style, bare)} == {("watercolor", None)}


def test_a_picture_with_a_sentence_alone_is_never_told_by_its_trigger_alone():
    facts = {**MINE, "tags": {"general": []}}
    for caption in drawn(POLICIES[3], facts):
        assert caption.kind == "sentence" and caption.text != "eileen, girl"
    assert drawn(CaptionPolicy(concepts={"me": EILEEN}), facts, 1)[0].text == "eileen, A girl smiles at the viewer."


def test_regularisation_pictures_have_the_class_and_all_their_tags():
    policy = CaptionPolicy(concepts={"me": Concept(None, "girl", prior=True)}, shuffle=0.0)
    plain = render(MINE, CaptionPolicy(shuffle=0.0), random.Random(0)).text.split(", ")
    caption = render(MINE, policy, random.Random(0))
    assert caption.text.split(", ") == ["girl", *(tag for tag in plain if tag != "girl")]
    assert caption.prior is None


def test_a_concept_changes_no_caption_of_another_source():
    for facts, number in itertools.product((FACTS, {**MINE, "source": "folder"}, {**MINE, "source": None}), (1, 20)):
        for options in ({}, {"kinds": {"tags": 1, "sentence+tags": 2}, "tag_dropout": 0.3, "keep_first": 1}):
            known = CaptionPolicy(**options, concepts={"me": EILEEN})
            without = variants(facts, CaptionPolicy(**options), count=number, seed=3, uid=9)
            assert without == variants(facts, known, count=number, seed=3, uid=9)


def test_addresses_without_concepts_are_what_they_were():
    assert "concepts" not in CaptionPolicy().facts() and "concepts" not in CaptionPolicy.anima().facts()
    one, other = (CaptionPolicy(concepts={"me": Concept(word)}).facts() for word in ("a", "b"))
    assert one != other and {k: v for k, v in one.items() if k != "concepts"} == CaptionPolicy().facts()


def test_a_config_says_what_a_concept_is():
    node = {"me": {"trigger": " eileen ", "class": "girl", "prune": ["*_hair", "Green Eyes"], "prior": False}}
    assert concepts_of(node) == {"me": Concept("eileen", "girl", ("*_hair", "green_eyes"))}
    assert concepts_of(None) == {} and Concept.of("x", {}) == Concept()


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"triger": "x"}, "trigger"),
        ({"trigger": 2}, "quotes"),
        ({"prune": "*_hair"}, "list"),
        ({"prior": "yes"}, "true or false"),
        ({"prior": True, "class": "girl", "trigger": "x"}, "no trigger"),
        ({"prior": True}, "class"),
        ("eileen", "no concept"),
    ],
)
def test_a_concept_that_cannot_be_is_refused(node, said):
    with pytest.raises(ConfigError, match=r"text\.concepts\.me") as error:
        Concept.of("me", node)
    assert said in str(error.value)
