"""Names, faces, ratings, and the list of what never enters."""

from __future__ import annotations

import csv

import pytest

from animeflow.text.blocklist import Blocklist
from animeflow.text.tags import rating_of, size_tags, split_sidecar, split_tags, to_name, to_words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("long_hair", "long hair"),
        ("oil_painting_(medium)", "oil painting (medium)"),
        ("eileen_(ren'py)", "eileen (ren'py)"),
        ("score_7", "score_7"),
        ("score_8_up", "score_8_up"),
        *[
            (face, face)
            for face in (
                "^_^",
                ">_<",
                "o_o",
                "0_0",
                "@_@",
                "+_+",
                "=_=",
                "|_|",
                "||_||",
                "<o>_<o>",
                ";_;",
                "u_u",
                "^__^",
            )
        ],
        ("m_k", "m k"),
        ("1girl", "1girl"),
        ("re:zero_kara_hajimeru_isekai_seikatsu", "re:zero kara hajimeru isekai seikatsu"),
        (":3", ":3"),
    ],
)
def test_underscores_become_spaces_except_in_faces(name, words):
    assert to_words(name) == words


def test_names_are_one_form():
    assert to_name("  Long   Hair ") == "long_hair" == to_name("ＬＯＮＧ＿ｈａｉｒ") == to_name("long_hair")
    assert split_tags("1girl  solo 1girl") == ["1girl", "solo"] == split_tags(["1girl", "solo", "1girl", None])
    assert split_tags(None) == split_tags("") == []
    assert split_sidecar("1girl, Blue Eyes,\nsolo\n") == ["1girl", "blue_eyes", "solo"]


@pytest.mark.parametrize(
    ("letter", "site", "rating"),
    [
        *[("g", "danbooru", "general"), ("s", "danbooru", "sensitive"), ("q", "danbooru", "questionable")],
        *[
            ("e", "danbooru", "explicit"),
            ("s", "yandere", "general"),
            ("s", "sankaku", "general"),
            ("s", "e621", "general"),
        ],
        *[("q", "konachan", "questionable"), ("sensitive", "gelbooru", "sensitive"), ("Safe", "e621", "general")],
        *[
            ("R-18G", "pixiv", "explicit"),
            ("x", "danbooru", "unknown"),
            (None, "danbooru", "unknown"),
            ("", "e621", "unknown"),
        ],
    ],
)
def test_rating_letters_depend_on_the_site(letter, site, rating):
    assert rating_of(letter, site=site) == rating


def test_s_was_safe_on_danbooru_before_2022():
    assert rating_of("s", site="danbooru", before_2022=True) == "general"


def test_size_tags_follow_danbooru():
    assert size_tags(1199, 1599) == []
    assert size_tags(1200, 1) == size_tags(1, 1600) == ["highres"]
    assert size_tags(2400, 1) == size_tags(1, 3200) == ["absurdres", "highres"]
    assert size_tags(500, 500) == ["lowres"]
    assert size_tags(500, 501) == []


def test_size_tags_agree_with_real_posts(test_data):
    import json

    for line in (test_data / "images" / "posts.jsonl").read_text().splitlines():
        post = json.loads(line)
        written = {"highres", "absurdres", "lowres"} & set(post["tag_string_meta"].split())
        assert written == set(size_tags(post["image_height"], post["image_width"]))


BLOCKED = [
    "loli",
    "LOLI",
    "Loli_con",
    "loli con",
    "ｌｏｌｉ",
    "onee-shota",
    "onee_shota",
    "oneshota",
    "ロリ",
    "ﾛﾘ",
    "ろり",
    "ショタ",
    "正太",
    "萝莉",
    "로리",
]
ALLOWED = [
    "lollipop",
    "lolita_fashion",
    "gothic_lolita",
    "aizawa_shota",
    "hololive",
    "1girl",
    "カロリー",
    "young",
    "child",
    "shotarou",
]


@pytest.mark.parametrize("tag", BLOCKED)
def test_blocked_in_every_spelling(tag):
    assert Blocklist.default().blocked(["1girl", tag]) == {tag}


def test_whole_tags_only():
    assert Blocklist.default().blocked(ALLOWED) == set()


def test_aliases_and_translations_are_followed():
    surfaces = [
        ("third", "second"),
        ("second_name", "first"),
        ("second", "loli"),
        ("Rōri", "loli"),
        ("sky_name", "sky"),
    ]
    extended = Blocklist.default().extended([*surfaces, ("first", "SECOND")])
    assert extended.blocked(["third", "second", "first", "second name", "rōri", "sky_name"]) == {
        "third", "second", "first", "second name", "rōri"
    }  # fmt: skip
    assert not Blocklist.default().blocked(["third"])


def test_sentences_are_read_word_by_word():
    blocks = Blocklist.default().blocks_text
    assert blocks("A picture of a Loli.") and blocks("これはロリです")
    assert not blocks("A girl eats a lollipop in gothic lolita fashion.") and not blocks("カロリーが高い")


def test_the_vocabulary_of_a_real_booru(test_data):
    with open(test_data / "tags" / "danbooru_top30k.csv", newline="") as file:
        rows = list(csv.reader(file))
    extended = Blocklist.default().extended((alias, row[0]) for row in rows for alias in row[3].split(","))
    names = extended.blocked(row[0] for row in rows if row[1] == "0")
    assert len(names) >= 6
    assert all(word not in name for name in names for word in ("lolita", "lollipop"))
    assert not extended.blocked(row[0] for row in rows if row[1] in ("1", "4"))  # no artist, no character
