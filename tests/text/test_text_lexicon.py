"""Captions in other words: one language each, in the shares that were asked for; artists and ladders never."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_toys import Words, wordbook

from animeflow.app.compose import compose
from animeflow.app.wiring import captions
from animeflow.core.errors import ConfigError, DataError
from animeflow.text.blocklist import Blocklist
from animeflow.text.caption import CaptionPolicy, count, pieces, render, variants
from animeflow.text.concept import concepts_of
from animeflow.text.lexicon import Wordbook
from animeflow.text.tags import to_words

NAMES = ("1girl", "smile", "cat_ears", "animal_ears", "hatsune_miku", "vocaloid", "highres")
JA = {name: [f"和{index}"] for index, name in enumerate(NAMES)}
ES = {name: [f"es {name}"] for name in NAMES} | {"kei": ["no"], "score_7": ["no"], "masterpiece": ["no"]}
PARENTS = {
    "cat_ears": ["animal_ears"],
    "white_cat_ears": ["cat_ears"],
    "hatsune_miku_(append)": ["hatsune_miku"],
    "kei": ["1girl"],
}
BOOK = wordbook(
    translations={"ja": JA, "es": ES}, aliases={"smile": ["smiling", "smiles"], "kei": ["k"]}, parents=PARENTS
)
FACTS = {
    "tags": {
        "general": ["1girl", "smile", "cat_ears", "animal_ears", "masterpiece", "score_7"],
        "character": ["hatsune_miku"],
        "copyright": ["vocaloid"],
        "artist": ["kei"],
        "meta": ["highres"],
    },
    "captions": {"en": "A girl smiles.", "ja": "少女が微笑む。", "es": "Una chica sonríe."},
    "rating": "general",
    "created_at": "2025-01-01",
}


def policy(**options) -> CaptionPolicy:
    return CaptionPolicy(**{"wordbook": BOOK, "shuffle": 0.0, **options})


def draws(facts: dict, wanted: CaptionPolicy, number: int, seed: int = 0) -> list:
    rng = random.Random(seed)
    return [render(facts, wanted, rng) for _ in range(number)]


def test_a_hundred_thousand_draws_match_the_weights_of_kinds_and_languages():
    facts = {
        "tags": {"general": ["smile"]},
        "captions": {"en": "A girl smiles.", "ja": "少女が微笑む。", "es": "Una chica."},
    }
    kinds = {"tags": 0.45, "sentence": 0.25, "tags+sentence": 0.2, "sentence+tags": 0.1}
    languages = {"en": 0.5, "ja": 0.3, "es": 0.2}
    found = count(draws(facts, policy(kinds=kinds, languages=languages, translate=1.0), 100_000))
    for name, weights in (("kinds", kinds), ("languages", languages)):
        for word, weight in weights.items():
            assert found[name][word] / 100_000 == pytest.approx(weight, abs=0.005)
    assert not found["missing_languages"] and "missing_translations" not in found


def test_a_caption_has_one_language_and_the_sentence_settles_it():
    wanted = policy(kinds={"tags": 1, "tags+sentence": 1}, languages={"en": 1, "ja": 1, "es": 1}, translate=1.0)
    facts = FACTS | {"captions": {name: FACTS["captions"][name] for name in ("en", "ja")}}
    seen = set()
    for caption in draws(facts, wanted, 400):
        signs = {"ja": "和" in caption.text, "es": "es 1girl" in caption.text, "en": "1girl, " in caption.text}
        signs["en"] = signs["en"] and not signs["es"]
        assert [language for language, there in signs.items() if there] == [caption.language]
        seen.add((caption.kind, caption.language, caption.wished))
    assert seen == {
        *(("tags", language, None) for language in ("en", "ja", "es")),
        *(("tags+sentence", language, None) for language in ("en", "ja")),
        ("tags+sentence", "en", "es"),  # no Spanish sentence: then no Spanish tags beside an English one
    }


def test_an_alias_is_written_with_underscores_where_tags_are():
    book = wordbook(aliases={"smile": ["smiling face"], "1girl": ["one girl"]})
    facts = {"tags": {"general": ["1girl", "smile", "cat_ears"]}}
    for underscores, text in ((True, "one_girl, smiling_face, cat_ears"), (False, "one girl, smiling face, cat ears")):
        wanted = policy(wordbook=book, alias=1.0, underscores=underscores, size_tags=False, rating_words={})
        assert draws(facts, wanted, 1)[0].text == text


def test_artists_ladders_years_and_ratings_are_never_translated():
    wanted = policy(
        kinds={"tags": 1}, languages={"es": 1}, translate=1.0, quality="keep", artist_prefix="@", order=(
            "quality", "year", "rating", "artist", "general"
        ),
    )  # fmt: skip
    assert render(FACTS, wanted, random.Random(0)).text == (
        "masterpiece, score_7, year 2025, general, @kei, es smile, es cat ears, es animal ears"
    )


def test_spanish_is_substituted_wholly_and_comes_back():
    wanted = policy(kinds={"tags": 1}, languages={"es": 1}, translate=1.0, order=("count+character+series+general",))
    back = {to_words(word): name for name, words in ES.items() for word in words}
    written = render(FACTS, wanted, random.Random(0))
    assert [back[word] for word in written.text.split(", ")] == [
        *("1girl", "hatsune_miku", "vocaloid", "smile", "cat_ears", "animal_ears")
    ]
    assert (written.language, written.translated, written.untranslated) == ("es", 6, ())


def test_a_missing_translation_is_the_tag_itself_and_counted():
    facts = {"tags": {"general": ["smile", "unheard_of"]}}
    wanted = policy(languages={"ja": 1}, translate=1.0)
    caption = render(facts, wanted, random.Random(0))
    assert (caption.text, caption.language, caption.untranslated) == ("和1, unheard of", "ja", (("ja", 1),))
    nothing = render({"tags": {"general": ["unheard_of"]}}, wanted, random.Random(0))
    assert (nothing.text, nothing.language, nothing.wished) == ("unheard of", "en", "ja")
    told = count([caption, nothing])
    assert told["missing_translations"] == {"ja": 2} and told["tags"] == {"translated": 1}


def test_a_share_of_tags_is_translated_and_of_english_ones_written_by_an_alias():
    facts = {"tags": {"general": ["smile"]}}
    half = Counter(caption.text for caption in draws(facts, policy(languages={"ja": 1}, translate=0.3), 10_000))
    assert half["和1"] / 10_000 == pytest.approx(0.3, abs=0.015) and set(half) == {"和1", "smile"}
    other = Counter(caption.text for caption in draws(facts, policy(alias=0.1), 10_000))
    assert (other["smiling"] + other["smiles"]) / 10_000 == pytest.approx(0.1, abs=0.01)
    assert other["smiling"] and other["smiles"]
    assert {caption.text for caption in draws(facts, policy(languages={"ja": 1}, alias=1.0), 50)} == {"smile"}
    assert render({"tags": {"artist": ["kei"]}}, policy(alias=1.0), random.Random(0)).text == "kei"


def test_mixed_captions_mix_languages_and_say_so():
    wanted = policy(languages={"en": 1, "ja": 1}, mixed=0.5)
    drawn = draws(FACTS, wanted, 400)
    mixed = [caption for caption in drawn if caption.language == "mixed"]
    assert 150 < len(mixed) < 250
    assert any("和" in caption.text and ("smile" in caption.text or "1girl" in caption.text) for caption in mixed)
    assert not any("和" in caption.text for caption in drawn if caption.language != "mixed")


def test_what_is_implied_is_kept_dropped_or_added():
    facts = {"tags": {"general": ["animal_ears", "white_cat_ears", "cat_ears", "smile"]}}

    def text(**options) -> str:
        return render(facts, policy(order=("character", "general"), **options), random.Random(0)).text

    assert text() == "animal ears, white cat ears, cat ears, smile"
    assert text(implied="drop") == "white cat ears, smile"
    assert text(implied="drop", keep_first=1) == "animal ears, white cat ears, smile"
    assert text(implied="drop", protected=("general",)) == text()
    facts = {"tags": {"general": ["smile", "white_cat_ears"], "character": ["hatsune_miku_(append)"]}}
    assert text(implied="add") == ("hatsune miku (append), hatsune miku, smile, white cat ears, animal ears, cat ears")


def test_an_artist_implies_nothing():
    facts = {"tags": {"general": ["smile"], "artist": ["kei"]}}
    assert render(facts, policy(implied="add"), random.Random(0)).text == "kei, smile"


def test_an_implied_tag_is_dropped_as_often_as_asked():
    facts = {"tags": {"general": ["animal_ears", "cat_ears"]}}
    texts = Counter(caption.text for caption in draws(facts, policy(implied=0.7), 10_000))
    assert texts["cat ears"] / 10_000 == pytest.approx(0.7, abs=0.015) and len(texts) == 2


def test_an_implication_brings_back_nothing_that_is_pruned_or_left_out():
    pruning = concepts_of({"s": {"trigger": "neko", "class": "girl", "prune": ["*_ears"]}})
    facts = {"tags": {"general": ["white_cat_ears", "smile"]}, "source": "s"}
    assert render(facts, policy(implied="add", concepts=pruning), random.Random(0)).text == "neko, smile"
    facts = {"tags": {"general": ["cat_ears"]}}
    assert render(facts, policy(implied="add", leave_out=("animal_*",)), random.Random(0)).text == "cat ears"


def test_a_forbidden_word_is_never_given_out():
    words = Words(
        translations={"ja": {"smile": ["bad word", "笑顔", "a, b"]}}, aliases={"smile": ["bad_word"]},
        parents={"smile": ["bad_word"]},
    )  # fmt: skip
    book = Wordbook(words, identity="x", blocklist=Blocklist(["bad_word"]))
    assert book.translations("smile", "ja") == ("笑顔",)
    assert book.aliases("smile") == book.implied("smile") == ()


def test_a_wordbook_asks_once_per_tag_from_any_thread():
    words = Words(translations={"ja": JA})
    book = Wordbook(words, identity="x")
    threads = [threading.Thread(target=lambda: [book.translations(name, "ja") for name in NAMES]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = words.asked
    assert book.translations("smile", "ja") == ("和1",) and words.asked == asked <= 4 * len(NAMES)


def test_switched_off_a_wordbook_changes_no_caption_and_no_address():
    off = policy(kinds={"tags": 1, "tags+sentence": 1}, languages={"en": 1, "ja": 1}, shuffle=1.0, tag_dropout=0.2)
    plain = replace(off, wordbook=None)
    assert variants(FACTS, off, count=50, seed=1, uid=2) == variants(FACTS, plain, count=50, seed=1, uid=2)
    assert off.facts() == plain.facts()
    later = {"implied", "alias", "translate", "mixed", "database", "extra", "fit", "tag_dropout_of", "bounds"}
    assert not later & set(off.facts()) and not any(name.startswith("quality_") for name in off.facts())
    assert policy(translate=0.5).facts()["database"] == "toy"


def test_each_option_of_words_changes_the_address():
    options = [{"implied": "drop"}, {"implied": 0.5}, {"implied": "add"}, {"alias": 0.1}, {"translate": 0.1}]
    options += [{"mixed": 0.1}, {}, {"wordbook": Wordbook(Words(), identity="other"), "alias": 0.1}]
    facts = [str(policy(**each).facts()) for each in options]
    assert len(set(facts)) == len(facts)


def test_what_needs_a_database_says_so():
    for options in ({"translate": 0.1}, {"alias": 0.1}, {"implied": "drop"}, {"mixed": 0.1}):
        with pytest.raises(ConfigError, match="need a database of tags"):
            CaptionPolicy(**options)
    with pytest.raises(ConfigError, match="did you mean 'drop'"):
        policy(implied="drpo")
    with pytest.raises(ConfigError, match=r"implied=1\.5 is not a probability"):
        policy(implied=1.5)
    with pytest.raises(DataError, match="no database"):
        captions(compose(["text=danbooru"]) | {"text": {"database": "/nowhere/tags.sqlite"}})


SOME = st.lists(st.sampled_from((*NAMES, "kei", "unheard_of", "^_^")), max_size=5)


@given(SOME, SOME, SOME, st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32))
def test_the_pieces_are_the_caption_and_a_sentence_is_whole(general, character, artist, chance, dropout, seed):
    facts = FACTS | {"tags": {"general": general, "character": character, "artist": artist}}
    wanted = CaptionPolicy.anima()
    options = {name: getattr(wanted, name) for name in wanted.facts()} | {"languages": {"en": 1, "ja": 1, "es": 1}}
    options |= {"translate": chance, "mixed": chance / 2, "alias": chance, "implied": chance, "tag_dropout": dropout}
    caption, parts = pieces(facts, CaptionPolicy(**options, wordbook=BOOK), random.Random(seed))
    assert "".join(text for _, text in parts) == caption.text
    assert render(facts, CaptionPolicy(**options, wordbook=BOOK), random.Random(seed)) == caption
    sentences = [text for section, text in parts if section == "sentence"]
    assert len(sentences) == ("sentence" in caption.kind)
    assert all(sentence in FACTS["captions"].values() for sentence in sentences)
