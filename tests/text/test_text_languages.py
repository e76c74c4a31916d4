"""Codes of languages: wherever a person gives one, a wrong one is an error that says which was meant."""

import pytest

from animeflow.catalogue.sources.folder import FolderSource
from animeflow.catalogue.sources.imagefolder import ImageFolderSource
from animeflow.core.errors import ConfigError
from animeflow.text.importers.free import rows
from animeflow.text.importers.record import Skipped, Surface, code_of
from animeflow.text.normalise import normalise
from animeflow.text.policy import CaptionPolicy
from animeflow.text.script import CODES, LANGUAGES, base, known_language, language_code


@pytest.mark.parametrize(
    "given, own",
    [("en", "en"), ("DE", "de"), ("pt_br", "pt-BR"), ("zh-CN", "zh-Hans"), ("jp", "ja"), ("fr-CA", "fr"), ("eu", "eu")],
)
def test_a_code_comes_in_one_form(given, own):
    assert known_language(given, where="here") == own


@pytest.mark.parametrize(
    "given, meant",
    [
        ("jap", "ja"),
        ("spanish", "es"),
        ("chs", "zh-Hans"),
        ("eng", "en"),
        ("Japanese", "ja"),
        ("japanes", "japanese"),
        ("ua", "uk"),
    ],
)
def test_a_wrong_code_names_the_right_one(given, meant):
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        known_language(given, where="here")


@pytest.mark.parametrize("given", ["xx", "", "qq-QQ", "zz", None, 3, False, "e"])
def test_what_is_no_code_is_an_error_with_its_place(given):
    with pytest.raises(ConfigError) as error:
        known_language(given, where="text.here")
    assert error.value.where == "text.here" and "en, ja, es" in error.value.do


def test_every_language_that_file_names_may_say_is_known_and_keeps_its_form():
    assert LANGUAGES <= CODES
    for code in CODES:
        assert base(language_code(code)) in CODES


def test_words_that_stand_for_no_language_are_right_only_where_they_are_asked_for():
    assert known_language("auto", where="here", others=("auto",)) == "auto"
    with pytest.raises(ConfigError):
        known_language("auto", where="here")


def test_captions_refuse_a_language_that_no_sentence_can_have():
    with pytest.raises(ConfigError, match="did you mean 'es'"):
        CaptionPolicy(languages={"en": 1.0, "spa": 0.5})
    with pytest.raises(ConfigError, match="'jp' is written 'ja'"):
        CaptionPolicy(languages={"jp": 1.0})
    with pytest.raises(ConfigError, match="'zh-CN' is written 'zh-Hans'"):
        CaptionPolicy(languages={"zh-CN": 1.0})
    CaptionPolicy(languages={"en": 0.5, "zh": 0.1, "zh-Hant": 0.1, "pt-BR": 0.1, "eu": 0.2})


def test_a_prompt_is_not_read_in_a_language_that_does_not_exist():
    with pytest.raises(ConfigError, match="did you mean 'de'") as error:
        normalise("Katze", None, language="german", where="--language")
    assert error.value.where == "--language"


@pytest.mark.parametrize("source", [FolderSource, ImageFolderSource])
def test_sources_refuse_it_too(source, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'ja'"):
        source(tmp_path, language="japanese")
    assert source(tmp_path, language="zh-TW").language == "zh-Hant"


def test_a_row_of_a_table_says_which_code_was_meant():
    assert code_of("zh-CN") == "zh-Hans"
    found = code_of("jap")
    assert isinstance(found, Skipped) and "did you mean 'ja'" in found.reason


def test_a_column_called_after_a_language_is_told_and_one_of_notes_is_not():
    found = list(rows([{"tag": "cat", "category": "general", "spanish": "gato", "de": "Katze", "notes": "soft"}]))
    assert [row.text for row in found if isinstance(row, Surface)] == ["Katze"]
    assert [row.reason for row in found if isinstance(row, Skipped)] == [
        "column 'spanish' is not the code of a language (did you mean 'es'?)"
    ]
