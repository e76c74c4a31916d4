"""Words find their tags in every form and language; only sure words are given out; forbidden ones neither found nor given."""

from __future__ import annotations

import pickle
import sqlite3
import threading
from multiprocessing import get_context

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tag_toys import make, sample_file, table, write

from animeflow.core.errors import DataError
from animeflow.text.blocklist import Blocklist
from animeflow.text.database import TagDatabase
from animeflow.text.importers.build import build
from animeflow.text.lexicon import Wordbook
from animeflow.text.normalise import normalise

LANGUAGES = ("ja", "zh-Hans", "ko", "de", "es", "it")


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> TagDatabase:
    out = tmp_path_factory.mktemp("sample") / "tags.db"
    build([sample_file()], out)
    return TagDatabase.open(out)


def test_every_word_that_is_given_out_means_its_tag_and_no_other(sample) -> None:
    given_out = 0
    for name, _, _ in sample.names():
        for language in LANGUAGES:
            for word in sample.translations(name, language):
                given_out += 1
                assert [match.name for match in sample.resolve(word, language)] == [name]
                assert [match.name for match in sample.resolve(word)] == [name]
        for alias in sample.aliases(name):
            assert [match.name for match in sample.resolve(alias)] == [name]
    assert given_out > 300


@given(data=st.data())
def test_spelling_does_not_matter(sample, data) -> None:
    name = data.draw(st.sampled_from([name for name, _, _ in sample.names()]))
    spaces = st.sampled_from([" ", "_", "  ", "__", "\u3000"])
    spelt = "".join(
        data.draw(spaces) if sign == "_" else data.draw(st.sampled_from([sign, sign.upper()])) for sign in name
    )
    assert sample.resolve(spelt)[0].name == name
    wide = "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in name)
    assert sample.resolve(wide)[0].name == name


def test_a_language_decides_and_without_one_all_meanings_come(sample) -> None:
    assert [m.name for m in sample.resolve("Gift", "de")] == ["poison"]
    assert [m.name for m in sample.resolve("gift", "en")] == ["gift"]
    assert [m.name for m in sample.resolve("gift")] == ["gift", "poison"]  # a tag's own name comes first
    assert [m.name for m in sample.resolve("burro", "it")] == ["butter"]
    assert {m.name for m in sample.resolve("burro", "ja")} == {"butter", "donkey"}  # no Japanese word: any language
    assert sample.resolve("unheard of") == []
    match = sample.resolve("猫耳", "ja")[0]
    assert (match.category, match.language, match.kind) == (
        "general",
        "ja",
        "translation",
    ) and 0 < match.confidence <= 1


def test_ambiguous_words_are_found_but_never_given_out(sample) -> None:
    assert "Gift" not in sample.translations("poison", "de") and "burro" not in sample.translations("butter", "it")
    assert sample.translations("gift", "de") == ["Geschenk"]
    assert "rin" not in sample.aliases("kaede_rin") and sample.aliases("kaede_rin") == ["rin kaede"]
    assert sample.aliases("long_hair") == ["longhair"]  # `/lh` is a key to press
    assert sample.translations("no_such_tag", "ja") == []


def test_a_person_settles_what_a_word_means(tmp_path) -> None:
    build([sample_file()], tmp_path / "tags.db")
    rows = "tag,language,surface,reviewed\npoison,de,Gift,yes\nbutter,it,burro,no\n"
    report = build([write(tmp_path, "mine.csv", rows)], tmp_path / "tags.db")
    database = TagDatabase.open(tmp_path / "tags.db")
    assert database.translations("poison", "de") == ["Gift"] and database.resolve("Gift", "de")[0].reviewed
    assert "burro" not in database.translations("butter", "it") and not any(
        match.name == "butter" for match in database.resolve("burro")
    )
    assert database.translations("donkey", "es") == ["burro"]  # nothing else is left that it could mean
    assert report.ambiguous == {4: 1, 5: 1}
    assert not build([sample_file()], tmp_path / "tags.db").changed  # what a person said outlives the list


def test_implications_reach_through_all_ancestors(tmp_path) -> None:
    rows = [f"t{i},general,,,,{'' if i == 5 else f't{i + 1}'},,,," for i in range(6)] + ["x,general,,,,t4|t5,,,,"]
    database, _ = make(tmp_path, mine__csv=table(*rows))
    assert [sorted(database.implied(f"t{i}")) for i in range(6)] == [
        [f"t{j}" for j in range(i + 1, 6)] for i in range(6)
    ]
    assert database.implied("x") == {"t4", "t5"} and database.implied("nothing") == frozenset()


def _first(database: TagDatabase) -> str:
    return database.resolve("猫耳")[0].name


def test_threads_and_processes_share_it(sample) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(_first(sample))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["cat_ears"] * 4
    assert _first(pickle.loads(pickle.dumps(sample))) == "cat_ears"
    with get_context("fork").Pool(1) as pool:
        assert pool.apply(_first, (sample,)) == "cat_ears"


def test_readers_cannot_write(sample) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        sample._connection().execute("DELETE FROM tag")


def test_a_file_that_is_missing_or_something_else_is_told(tmp_path) -> None:
    with pytest.raises(DataError, match="there is no database"):
        TagDatabase.open(tmp_path / "no.db")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE about(key, value)").connection.commit()
    with pytest.raises(DataError, match="no database of tags"):
        TagDatabase.open(tmp_path / "other.db")


FORBIDDEN = sorted(Blocklist.default()._forms)[0]


@pytest.fixture(scope="module")
def with_forbidden(tmp_path_factory) -> TagDatabase:
    rows = (
        f"{FORBIDDEN},general,90,bad_alias,,,悪い名,mala palabra,,",
        "hat,general,80,cap,,,帽子,sombrero,,",
        "bad_alias_of_a_hat,general,3,,,,悪い名|良い名,,,",
    )
    return make(tmp_path_factory.mktemp("forbidden"), mine__csv=table(*rows))[0]


@pytest.mark.parametrize("word", [FORBIDDEN, FORBIDDEN.upper(), "bad_alias", "悪い名", "Mala  Palabra"])
def test_a_forbidden_tag_is_found_under_none_of_its_names(with_forbidden, word) -> None:
    assert with_forbidden.resolve(word) == [] and with_forbidden.is_blocked(word)
    assert Blocklist.default().extended(with_forbidden.surfaces()).blocked([word]) == {word}


def test_a_forbidden_tag_is_never_given_out(with_forbidden) -> None:
    assert [name for name, _, _ in with_forbidden.names()] == ["hat", "bad_alias_of_a_hat"]
    assert with_forbidden.translations(FORBIDDEN, "es") == [] and with_forbidden.words(FORBIDDEN) == []
    assert with_forbidden.category(FORBIDDEN) is None and with_forbidden.aliases(FORBIDDEN) == []
    assert with_forbidden.translations("bad_alias_of_a_hat", "ja") == ["良い名"]  # the word they share is forbidden too
    assert not with_forbidden.is_blocked("hat") and [m.name for m in with_forbidden.resolve("帽子")] == ["hat"]
    ambiguous = [word for word, *_ in with_forbidden.ambiguities()]
    assert ambiguous == []


def test_further_forbidden_words_may_be_given(sample) -> None:
    mine = TagDatabase.open(sample.path, blocklist=Blocklist.default().with_tags(["hoodie"]))
    assert mine.resolve("hoodie") == mine.resolve("パーカー") == [] and mine.is_blocked("パーカー")
    assert sample.resolve("パーカー")[0].name == "hoodie"


def test_it_is_a_lexicon_for_captions(sample) -> None:
    book = Wordbook(sample, identity=sample.identity)
    assert book.translations("cat_ears", "es") == ("orejas de gato",) and book.implied("cat_ears") == ("animal_ears",)


@pytest.fixture(scope="session")
def real(test_data, tmp_path_factory) -> TagDatabase:
    """The real lists, as far as they are about the 1,500 most frequent tags."""
    folder = tmp_path_factory.mktemp("real")
    lines = (test_data / "tags/danbooru_top30k.csv").read_text("utf-8").splitlines()[:1500]
    names = {line.split(",")[0] for line in lines}
    paths = [write(folder, "list.csv", "\n".join(lines))]
    for file in sorted((test_data / "tags/translations").iterdir()):
        rows = file.read_text("utf-8-sig").splitlines()
        sign = "=" if file.suffix == ".txt" else ","
        kept = [row for row in rows if row.split(sign)[0].replace(" ", "_") in names or row.startswith("tag,")]
        paths.append(write(folder, file.name, "\n".join(kept)))
    build(paths, folder / "tags.db")
    return TagDatabase.open(folder / "tags.db")


@pytest.mark.parametrize(("language", "share"), [("es", 0.3), ("ja", 0.9), ("zh", 0.6), ("de", 0.3), ("ko", 0.3)])
def test_real_translations_come_back_as_their_tag(real, language, share) -> None:
    names = [name for name, _, _ in real.names()]
    translated = 0
    for name in names:
        given_out = real.translations(name, language)
        translated += bool(given_out)
        for word in given_out:
            assert [match.name for match in real.resolve(word, language)] == [name]
    assert translated > share * len(names)


@pytest.mark.parametrize(
    ("prompt", "tags"),
    [
        ("女の子一人, 猫耳, 長い髪、笑顔", "1girl, solo, cat ears, long hair, smile"),
        ("1个女孩，长发，微笑，蓝眼睛，校服", "1girl, long hair, smile, blue eyes, school uniform"),
        ("긴 머리카락, (파란 눈:1.2), 교복", "long hair, (blue eyes:1.2), school uniform"),
        ("cabello largo, ojos azules, sonrisa, uniforme escolar", "long hair, blue eyes, smile, school uniform"),
        ("langes Haar, blaue Augen, Lächeln, Schuluniform", "long hair, blue eyes, smile, school uniform"),
    ],
)
def test_real_prompts_are_read_as_tags(real, prompt, tags) -> None:
    assert normalise(prompt, real).text == tags
