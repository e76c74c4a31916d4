"""The probe of official styles: a model that knows them passes, and every way of not knowing them fails."""

import json
import random

import pytest

from animeflow.app.bases import tiny_oracle
from animeflow.evaluate.official import ARTISTS, LIMIT, OfficialReport, Question, measure, questions
from animeflow.evaluate.oracle import Oracle
from animeflow.text.caption import variants
from animeflow.text.policy import CaptionPolicy
from animeflow.toonworld.dataset import World, truth
from animeflow.toonworld.draw import draw
from animeflow.toonworld.official import OFFICIAL, TAG, is_official
from animeflow.toonworld.words import ATTRIBUTES, CAST, FIXED
from animeflow.toonworld.world import Figure, Scene

ASKED = questions(48)


def report(answer) -> OfficialReport:
    return measure(ASKED, [answer(question) for question in ASKED])


def test_half_of_the_questions_name_another_artist_and_everybody_is_asked_alike():
    silent, named = ASKED[:48], ASKED[48:]
    assert all(question.artist is None for question in silent) and all(question.artist for question in named)
    assert all(question.artist != OFFICIAL[CAST[question.character].series] for question in named)
    for half in (silent, named):
        assert {sum(q.character == name for q in half) for name in CAST} == {4}
    pairs = {(q.character, q.artist) for q in questions(36)[36:]}
    assert len(pairs) == 36, "every character with every artist but her own"
    assert ASKED[0].prompt() == "1girl, solo, akari hoshino, starlit academy"
    assert ASKED[48].prompt("@").startswith("1girl, solo, akari hoshino, starlit academy, @")


def test_it_takes_both_to_pass():
    rng = random.Random(0)
    assert report(lambda q: q.expected).passed
    deaf = report(lambda q: Question(q.character).expected)  # draws the official style whatever is asked
    assert (deaf.default.accuracy, deaf.followed.accuracy, deaf.ignored.accuracy) == (1.0, 0.0, 1.0) and not deaf.passed
    blind = report(lambda q: q.artist or rng.choice(ARTISTS))  # follows artists, and knows no official style
    assert blind.followed.accuracy == 1.0 and blind.default.accuracy < 0.5 and not blind.passed
    one = report(lambda q: ARTISTS[0])
    assert one.default.accuracy == pytest.approx(one.chance["default"]) and not one.passed


def test_eighty_per_cent_are_the_limit():
    def answer(wrong: int):
        rows = [q.expected if n >= wrong else next(a for a in ARTISTS if a != q.expected) for n, q in enumerate(ASKED)]
        return measure(ASKED, rows)

    assert LIMIT == 0.8 and answer(9).passed and not answer(10).passed


def test_pictures_drawn_by_the_right_artist_pass_and_by_the_wrong_one_do_not():
    """The whole of it without a model: drawn pictures, read by the oracle that reads a model's."""
    oracle, rng = Oracle.load(tiny_oracle(), vocabulary=ATTRIBUTES), random.Random(1)

    def drawn(question: Question, artist: str):
        who = CAST[question.character]
        fixed = {name: getattr(who, name) for name in FIXED}
        free = {name: rng.choice(ATTRIBUTES[name]) for name in ("expression", "outfit", "pose")}
        scene = Scene(
            (Figure(**fixed, **free, character=who.name),), rng.choice(ATTRIBUTES["background"]), "day", artist
        )
        return draw(scene, 96, 96, layers=False).pixels

    def read(pictures):
        return [reading["artist"][0] for reading in oracle.read(pictures)]

    asked = questions(12)
    assert measure(asked, read([drawn(q, q.expected) for q in asked])).passed
    assert not measure(asked, read([drawn(q, Question(q.character).expected) for q in asked])).passed
    assert not measure(asked, read([drawn(q, rng.choice(ARTISTS)) for q in asked])).passed


def test_what_it_measures_is_what_the_caption_rule_teaches():
    """Of official art the artist goes unnamed as often as the policy says, of no other picture ever; the truth has the tag."""
    world = World(named_share=1.0, count_weights={1: 1.0}, official=True)
    rows = [truth(world, index) for index in range(400)]
    official = [row for row in rows if is_official(row.scene)]
    assert [row for row in rows if TAG in row.tags["meta"]] == official and 60 < len(official) < 140
    assert "official_art" not in str(truth(World(named_share=1.0), 0).tags)
    policy = CaptionPolicy(
        order=("count", "character", "series", "artist", "general"), official_style=0.8, size_tags=False
    )

    def unnamed(rows) -> float:
        texts = [
            (row, each.text)
            for row in rows
            for each in variants({"tags": row.tags}, policy, count=4, seed=0, uid=row.index)
        ]
        return sum(row.scene.artist.replace("_", " ") not in text for row, text in texts) / len(texts)

    assert unnamed(official) == pytest.approx(0.8, abs=0.08)
    assert unnamed([row for row in rows if not is_official(row.scene)]) == 0


def test_it_comes_back_from_json():
    found = report(lambda q: ARTISTS[1])
    assert OfficialReport.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    with pytest.raises(ValueError, match="without an artist"):
        measure(ASKED[48:], [q.expected for q in ASKED[48:]])
