"""A folder's name gives a word that captions can open with; what is proposed for pruning describes a character and not a moment."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from animeflow.text.concept import Concept
from animeflow.text.tags import to_name
from animeflow.text.trigger import class_of, describes_identity, kohya_folder, prune_of, trigger_of

NAMES = {
    "eileen": "eileen",
    "Eileen Galvez": "eileen galvez",
    "eileen_galvez": "eileen galvez",
    "10_eileen girl": "eileen",
    "3_hatsune_miku 1girl": "hatsune miku",
    "eileen_(ren'py)": "eileen ren py",
    "MyChar": "my char",
    "2b": "2b",
    "2024_08_trip": "2024 08 trip",  # a year is no number of repeats
    " サチ ": "サチ",
    "___": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_name_becomes_a_trigger(name):
    assert trigger_of(name) == NAMES[name]
    assert trigger_of(trigger_of(name)) == trigger_of(name)
    assert Concept.of("x", {"trigger": trigger_of(name)}).trigger == (NAMES[name] or None)


def test_kohyas_folders_say_repeats_trigger_and_class():
    assert kohya_folder("10_eileen girl") == (10, "eileen girl") and class_of("10_eileen girl") == "girl"
    assert kohya_folder("eileen") is None and kohya_folder("2b") is None and class_of("eileen girl") == ""


MOMENTS = [
    "closed_eyes",
    "half-closed_eyes",
    "wet_hair",
    "looking_at_viewer",
    "smile",
    "school_uniform",
    "outdoors",
    "solo",
    "1girl",
]
TRAITS = [
    "blue_eyes",
    "long_hair",
    "cat_ears",
    "fox_tail",
    "heterochromia",
    "twintails",
    "dark_skin",
    "mole_under_eye",
    "halo",
]


def test_moments_and_clothes_are_no_identity():
    assert not any(map(describes_identity, MOMENTS))
    assert all(map(describes_identity, TRAITS))


def test_only_what_most_pictures_show_is_pruned():
    counts = {"blue_eyes": 10, "long_hair": 7, "short_hair": 6, "smile": 10, "closed_eyes": 9, "Cat Ears": 8}
    assert prune_of(counts, 10) == ["blue_eyes", "Cat Ears", "long_hair"]
    assert prune_of(counts, 10, share=0.6) == ["blue_eyes", "Cat Ears", "long_hair", "short_hair"]
    assert prune_of({"blue_eyes": 2}, 2) == []


def test_real_characters_keep_what_changes_and_lose_what_does_not(test_data):
    posts = [json.loads(line) for line in (test_data / "images" / "posts.jsonl").read_text().splitlines()]
    seen = [set(post["tag_string"].split()) for post in posts if "eileen_(ren'py)" in post["tag_string"].split()]
    counts = Counter(tag for tags in seen for tag in tags)
    pruned = prune_of(counts, len(seen))
    assert {"red_hair", "short_hair"} <= set(pruned)
    assert all(counts[tag] >= 0.7 * len(seen) and to_name(tag) == tag for tag in pruned)
    assert not {"1girl", "solo", "closed_mouth", "looking_at_viewer", "white_shirt"} & set(pruned)
