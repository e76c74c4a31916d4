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


@pytest.mark.parametrize(
    "tag",
    [
        "cute loli", "blonde_loli", "2lolis", "(loli:1.2)", "loli!", "lo\u200bli", "lolicón", "brown-haired shota",
        "小萝莉", "巨乳蘿莉", "合法ロリ", "ロリ巨乳", "ケモショタ", "귀여운 로리", "лоли", "милый_шота", "pedófilo",
        "child porn",
    ],
)  # fmt: skip
def test_a_forbidden_word_forbids_the_tag_that_it_stands_in(tag):
    assert Blocklist.default().blocked(["1girl", tag]) == {tag} and Blocklist.default().blocks_text(tag)


@pytest.mark.parametrize(
    "tag",
    [
        "loly_aivirrne", "loli-kami requiem", "shukusei!!_loli-kami_requiem", "akashio_(loli_ace)", "aizawa shota",
        "甘ロリ", "和风萝莉", "ロリータ", "ゴスロリ", "カロリー", "リオ・ロリンズ", "ペドロ", "ぽろり", "金田正太郎",
        "幼女戦記", "칼로리", "로리타", "child", "childhood_friend", "кот", "screenshot", "mother_and_child", "kindergarten",
    ],
)  # fmt: skip
def test_a_word_that_only_looks_like_one_stays(tag):
    assert not Blocklist.default().blocked([tag]) and not Blocklist.default().blocks_text(tag)


@pytest.mark.parametrize(
    "sentence",
    [
        "可爱的萝莉在公园里玩", "正太和姐姐", "これはロリの子です", "ろりの子", "귀여운 로리가 웃는다",
        "милая лоли стоит", "una loli con gato", "explicit child porn",
        "A naked child on a beach.", "Little girls, sexualised.",
    ],
)  # fmt: skip
def test_sentences_of_every_script_are_read(sentence):
    assert Blocklist.default().blocks_text(sentence)
    assert not Blocklist(["hat"]).blocks_text(sentence)  # a list of somebody's own has the words that it was given


def test_a_child_is_never_in_a_sexual_picture():
    post = Blocklist.default().blocks_post
    for age in ("child", "young", "Toddler", "子供", "niña"):
        assert not post([age, "1girl"]) and not post([age], rating="general") and not post([age], rating="sensitive")
        assert post([age], rating="explicit") and post([age], rating="questionable")
        assert post([age, "completely nude"])  # where nobody rated it
    assert not post(["1girl", "nude"], rating="explicit") and not post(["young_link"], rating="explicit")
    assert post([], ["a loli"]) and not post(["sky"], ["A child eats an apple."], rating="general")


def test_the_vocabulary_of_a_real_booru(test_data):
    with open(test_data / "tags" / "danbooru_top30k.csv", newline="") as file:
        rows = list(csv.reader(file))
    extended = Blocklist.default().extended((alias, row[0]) for row in rows for alias in row[3].split(","))
    names = extended.blocked(row[0] for row in rows if row[1] == "0")
    assert len(names) >= 6
    assert all(word not in name for name in names for word in ("lolita", "lollipop"))
    assert not extended.blocked(row[0] for row in rows if row[1] in ("1", "4"))  # no artist, no character
