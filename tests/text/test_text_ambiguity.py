"""Planted collisions of every class are found, each in its class, and nothing else is."""

from __future__ import annotations

import pytest
from tag_toys import make, table

from animeflow.text.ambiguity import CLASSES, Finder, Word, plain_words

PLANTED = table(
    "gift,general,90,,,,,,,",
    "poison,general,80,,,,毒,veneno,Gift,veleno",  # another tag in another language, which is that tag's own name
    "donkey,general,70,,,,,burro,Esel,asino",
    "butter,general,60,,,,,mantequilla,,burro",  # another tag in another language
    "smile,general,50,grin,,,笑顔,sonrisa,,",
    "laughing,general,40,,,,笑顔,,,",  # one word, two tags, one language
    "hatsune_miku,character,99,,miku,,初音ミク,,,",
    "nakano_miku,character,30,,miku,,中野三玖,,,",  # a nickname of two characters
    "hatsune_miku_(append),character,5,,,hatsune_miku,,,,",
    "fern_(frieren),character,20,,fern,,フェルン,,,",  # a plain word
    "kaname_madoka,character,20,,madoka,,鹿目まどか,,,",
    "madoka_aguri,character,2,,,,円あぐり,,,",  # bears the nickname of another one in her own name
    "black_shoes,general,3,,,,,,,",
    "black_footwear,general,30,black shoes,,,,,,",  # the canonical name of another tag
    "curtains,general,20,curtain,,,カーテン,,,",  # a form of the same word: nothing
    *(f"{color}_curtain,general,2,,,,,,," for color in ("red", "blue", "green", "pink", "white")),
)
EXPECTED = {
    ("gift", 2): ["gift", "poison"],
    ("gift", 3): ["gift", "poison"],
    ("burro", 2): ["butter", "donkey"],
    ("笑顔", 1): ["laughing", "smile"],
    ("miku", 5): ["hatsune_miku", "nakano_miku"],
    ("fern", 4): ["fern_(frieren)"],
    ("madoka", 5): ["kaname_madoka", "madoka_aguri"],
    ("black shoes", 3): ["black_footwear", "black_shoes"],
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return make(tmp_path_factory.mktemp("planted"), mine__csv=PLANTED)


def test_planted_collisions_are_all_found_and_classed(planted) -> None:
    database, report = planted
    found = {(word, number): tags for word, number, tags, reviewed in database.ambiguities() if not reviewed}
    assert found == EXPECTED
    assert report.ambiguous == {1: 1, 2: 2, 3: 2, 4: 1, 5: 2}
    assert all(any(number == each for _, each in EXPECTED) for number in CLASSES)


def test_none_of_them_is_used_for_captions_and_all_others_are(planted) -> None:
    database, _ = planted
    used = {
        word
        for name, _, _ in database.names()
        for code in ("ja", "es", "de", "it")
        for word in database.translations(name, code)
    }
    used |= {word for name, _, _ in database.names() for word in database.aliases(name)}
    known = {
        each["word"] for name, _, _ in database.names() for each in database.words(name) if each["kind"] != "canonical"
    }
    assert known - used == {"Gift", "burro", "笑顔", "miku", "fern", "madoka", "black shoes"}


def test_every_meaning_stays_to_choose_from(planted) -> None:
    database, _ = planted
    assert [match.name for match in database.resolve("miku")] == ["hatsune_miku", "nakano_miku"]  # by frequency
    assert [match.name for match in database.resolve("笑顔", "ja")] == ["smile", "laughing"]
    assert database.meanings("miku") == [(5, ["hatsune_miku", "nakano_miku"])] and database.meanings("毒") == []


def test_a_review_takes_one_word_out_of_the_list(tmp_path) -> None:
    review = "tag,language,surface,kind,reviewed\nhatsune_miku,en,miku,nickname,yes\n"
    database, report = make(tmp_path, mine__csv=PLANTED, review__csv=review)
    assert report.ambiguous == {1: 1, 2: 2, 3: 2, 4: 1, 5: 1}
    assert database.resolve("miku")[0].reviewed and database.meanings("miku") == []
    assert ("miku", 5, ["hatsune_miku", "nakano_miku"], True) in list(database.ambiguities())


def test_the_same_word_for_the_same_tag_in_two_languages_is_no_collision() -> None:
    finder = Finder([("gift", "general")])
    one = [Word("regalo", "gift", "general", code, "translation") for code in ("es", "it")]
    assert list(finder.classes(one)) == []
    regions = [
        Word("a b", "x", "general", "zh-Hans", "translation"),
        Word("a b", "y", "general", "zh-Hant", "translation"),
    ]
    assert [each.number for each in finder.classes(regions)] == [1]  # both are Chinese


def test_small_words_of_every_language_are_plain() -> None:
    words = plain_words()
    assert {"en", "de", "es", "fr", "ja", "zh", "ko"} <= words.keys() and all(words.values())
    finder = Finder([])
    der = [Word("der", "the_tag", "general", "de", "translation")]
    assert [each.number for each in finder.classes(der)] == [4]
