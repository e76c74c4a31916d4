"""Captions keep what the policy fixes, reach everything it leaves open, and depend on the key alone."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections import Counter

import pytest

from animeflow.core.errors import ConfigError
from animeflow.text.caption import Caption, CaptionPolicy, count, render, variants

FACTS = {
    "tags": {
        "general": ["1girl", "smile", "long_hair", "^_^"],
        "character": ["hatsune_miku"],
        "copyright": ["vocaloid"],
        "artist": ["some_artist"],
        "meta": ["highres", "commentary_request", "masterpiece", "watercolor_(medium)"],
    },
    "captions": {"en": "A girl with long hair smiles.", "ja": "長い髪の少女が微笑む。"},
    "rating": "sensitive",
    "width": 3300,
    "height": 900,
    "created_at": "2025-03-04T00:00:00+00:00",
}
STILL = CaptionPolicy(shuffle=0.0)


def text(policy: CaptionPolicy, seed: int = 0, facts: dict = FACTS) -> str:
    return render(facts, policy, random.Random(seed)).text


def test_the_full_template():
    assert text(CaptionPolicy(shuffle=0.0, artist_prefix="@", rating_words={"sensitive": "safe"})) == (
        "watercolor (medium), absurdres, highres, year 2025, safe, 1girl, hatsune miku, vocaloid, @some artist, "
        "smile, long hair, ^_^"
    )


def test_quality_tags_are_written_only_when_asked():
    assert "masterpiece" not in text(CaptionPolicy())
    kept = CaptionPolicy(quality="keep", shuffle=0.0)
    assert text(kept).startswith("masterpiece, watercolor")


def test_nekofantasia_has_no_underscore_no_quality_and_no_prefix():
    for seed in range(50):
        tags = text(CaptionPolicy.nekofantasia(), seed).split(", ")
        assert set(tags) == {
            *("1girl", "smile", "long hair", "^_^", "hatsune miku", "vocaloid", "some artist", "watercolor (medium)"),
            *("absurdres", "highres", "sensitive"),
        }
        assert len(tags) == 11


def test_size_tags_come_from_the_size():
    assert "highres" not in text(CaptionPolicy(), facts=FACTS | {"width": 800})
    assert "lowres" in text(CaptionPolicy(), facts=FACTS | {"width": 300, "height": 300})
    assert "highres" in text(CaptionPolicy(), facts={**FACTS, "width": None})
    assert "highres" not in text(CaptionPolicy(size_tags=False))


def test_every_permutation_of_a_section_is_reached_and_sections_stay_in_order():
    facts = {"tags": {"general": ["1girl", "a", "b", "c"], "character": ["x", "y"]}}
    policy = CaptionPolicy(order=("count", "character", "general"))
    seen = {text(policy, seed, facts) for seed in range(400)}
    expected = {
        ", ".join(("1girl", *two, *three))
        for two in itertools.permutations("xy")
        for three in itertools.permutations("abc")
    }
    assert seen == expected


def test_a_pool_of_sections_mixes_and_the_first_tags_stay():
    facts = {"tags": {"general": ["1girl", "a", "b"], "character": ["x"]}}
    policy = CaptionPolicy(order=("count+character+general",), keep_first=1, tag_dropout=0.0)
    seen = {text(policy, seed, facts) for seed in range(300)}
    assert seen == {", ".join(("1girl", *rest)) for rest in itertools.permutations("abx")}


def test_shuffle_probability():
    facts = {"tags": {"general": list("abcdefgh")}}
    policy = CaptionPolicy(shuffle=0.25)
    still = sum(text(policy, seed, facts) == "a, b, c, d, e, f, g, h" for seed in range(2000))
    assert 0.70 < still / 2000 < 0.80
    assert len({text(STILL, seed, facts) for seed in range(20)}) == 1


def test_dropout_by_section_and_protection():
    facts = {"tags": {"general": [f"g{i}" for i in range(10)], "character": ["x"], "meta": ["m"], "artist": ["a"]}}
    policy = CaptionPolicy(
        tag_dropout=0.5, section_dropout={"meta": 1.0, "artist": 1.0}, protected=("character", "artist")
    )
    counts = Counter(tag for seed in range(1000) for tag in text(policy, seed, facts).split(", "))
    assert counts["x"] == counts["a"] == 1000 and counts["m"] == 0
    assert all(430 < counts[f"g{i}"] < 570 for i in range(10))
    kept = CaptionPolicy(tag_dropout=1.0, keep_first=2, protected=())
    assert text(kept, 3, facts) == "m, x"


def test_kinds_follow_their_weights():
    policy = CaptionPolicy(kinds={"tags": 4, "sentence": 3, "tags+sentence": 2, "sentence+tags": 1}, shuffle=0.0)
    captions = [render(FACTS, policy, random.Random(seed)) for seed in range(4000)]
    kinds = Counter(caption.kind for caption in captions)
    for kind, share in (("tags", 0.4), ("sentence", 0.3), ("tags+sentence", 0.2), ("sentence+tags", 0.1)):
        assert abs(kinds[kind] / 4000 - share) < 0.03
    for caption in captions:
        if "sentence" in caption.kind:
            assert FACTS["captions"]["en"] in caption.text  # a sentence is never cut or shuffled
    by_kind = {caption.kind: caption.text for caption in captions}
    assert by_kind["tags+sentence"] == f"{by_kind['tags']}. {by_kind['sentence']}"
    assert by_kind["sentence+tags"] == f"{by_kind['sentence']} {by_kind['tags']}"


def test_a_missing_language_falls_back_to_english_and_is_counted():
    policy = CaptionPolicy(kinds={"sentence": 1}, languages={"en": 1, "ja": 1, "es": 2})
    captions = variants(FACTS, policy, count=400, seed=0, uid=1)
    numbers = count(captions)
    assert set(numbers["languages"]) == {"en", "ja"}
    assert 150 < numbers["missing_languages"]["es"] < 250
    assert Caption("長い髪の少女が微笑む。", "sentence", "ja", None) in captions


def test_missing_parts_are_replaced_by_the_other():
    sentences = CaptionPolicy(kinds={"sentence": 1})
    assert render({"tags": {"general": ["smile"]}}, sentences, random.Random(0)) == Caption("smile", "tags", "en", "en")
    assert render({"captions": {"en": "A cat."}}, CaptionPolicy(), random.Random(0)).text == ""
    assert (
        render({"captions": {"en": "A cat."}}, CaptionPolicy(kinds={"tags+sentence": 1}), random.Random(0)).text
        == "A cat."
    )
    assert render({}, sentences, random.Random(0)).text == ""


def test_artist_prefix_is_written_once():
    policy = CaptionPolicy(artist_prefix="@", shuffle=0.0, order=("artist",))
    assert text(policy, facts={"tags": {"artist": ["@one", "two_b"]}}) == "@one, @two b"


def test_tags_about_the_post_are_left_out():
    assert "commentary request" not in text(CaptionPolicy())
    assert "commentary request" in text(CaptionPolicy(leave_out=()))


def test_a_variant_depends_on_seed_uid_and_number_only():
    policy = CaptionPolicy.nekofantasia()
    eight = variants(FACTS, policy, count=8, seed=5, uid=77)
    assert variants(FACTS, policy, count=3, seed=5, uid=77) == eight[:3]
    assert variants(FACTS, policy, count=8, seed=6, uid=77) != eight
    assert variants(FACTS, policy, count=8, seed=5, uid=78) != eight
    assert len({caption.text for caption in eight}) == 8


def test_another_process_draws_the_same():
    program = (
        "from animeflow.text.caption import *\n"
        "facts = {'tags': {'general': list('abcdefghij')}, 'captions': {'en': 'One.', 'ja': '一。'}}\n"
        "policy = CaptionPolicy(kinds={'sentence': 1, 'tags': 1}, languages={'ja': 1, 'en': 1}, tag_dropout=0.3)\n"
        "print(variants(facts, policy, count=6, seed=1, uid=2))"
    )
    prints = [
        subprocess.run(
            [sys.executable, "-X", "utf8", "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": h},
        ).stdout
        for h in ("1", "2")
    ]
    assert prints[0] == prints[1]
    facts = {"tags": {"general": list("abcdefghij")}, "captions": {"en": "One.", "ja": "一。"}}
    reordered = CaptionPolicy(kinds={"tags": 1, "sentence": 1}, languages={"en": 1, "ja": 1}, tag_dropout=0.3)
    assert prints[0].strip() == str(variants(facts, reordered, count=6, seed=1, uid=2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kinds": {"tag": 1}}, "did you mean 'tags'"),
        ({"kinds": {"tags": 0}}, "no positive weight"),
        ({"languages": {}}, "no positive weight"),
        ({"order": ("count", "generel")}, "did you mean 'general'"),
        ({"order": ("count", "general+count")}, "named twice"),
        ({"shuffle": 1.5}, "not a probability"),
        ({"section_dropout": {"meta": -1}}, "not a probability"),
        ({"section_dropout": {"meta": "some"}}, "'some' is no number"),
        ({"tag_dropout_of": {"watermark": None}}, "None is no number"),
        ({"languages": {"ja": "often"}}, "'often' is no number"),
        ({"quality": "best"}, "unknown name 'best'"),
    ],
)
def test_impossible_policies_say_so(options, words):
    with pytest.raises(ConfigError, match=words):
        CaptionPolicy(**options)


def test_facts_of_a_policy_are_json_and_tell_policies_apart():
    import json

    for policy in (CaptionPolicy(), CaptionPolicy.nekofantasia(), CaptionPolicy.toonworld()):
        assert json.loads(json.dumps(policy.facts())) == policy.facts()
    assert CaptionPolicy().facts() != CaptionPolicy(keep_first=1).facts()
