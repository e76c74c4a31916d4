"""Prompts in any language become tags; weights, escapes, sentences and what is unknown stay as they are, and all of it is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tag_toys import sample_file

from animeflow.core.errors import ConfigError
from animeflow.text import emphasis
from animeflow.text.database import TagDatabase
from animeflow.text.importers.build import build
from animeflow.text.normalise import normalise
from animeflow.text.prompt_parts import cut, join
from animeflow.text.tags import to_words


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> TagDatabase:
    out = tmp_path_factory.mktemp("sample") / "tags.db"
    build([sample_file()], out)
    return TagDatabase.open(out)


ENGLISH = "1girl, long hair, blue eyes, smile, school uniform, cat ears"


@pytest.mark.parametrize(
    ("language", "prompt"),
    [
        ("ja", "女の子、長い髪、青い目、笑顔、制服、猫耳"),
        ("ja", "女の子　長い髪　青い目　笑顔　制服　猫耳"),
        ("zh", "一个女孩，长发，蓝眼睛，微笑，校服，猫耳朵"),
        ("ko", "소녀 한 명, 긴 머리, 파란 눈, 미소, 교복, 고양이 귀"),
        ("es", "una chica, pelo largo, ojos azules, sonrisa, uniforme escolar, orejas de gato"),
        ("de", "ein Mädchen, lange Haare, blaue Augen, Lächeln, Schuluniform, Katzenohren"),
        ("it", "una ragazza, capelli lunghi, occhi azzurri, sorriso, uniforme scolastica, orecchie da gatto"),
        ("en", "1girl, longhair, blue_eyes, smiling, school_uniform, nekomimi"),
    ],
)
def test_a_prompt_of_every_language_is_the_same_prompt(sample, language, prompt) -> None:
    for asked in ("auto", language):
        reading = normalise(prompt, sample, language=asked)
        assert (reading.text, reading.language) == (ENGLISH, language)
        assert reading.typed == prompt and not {"unknown", "ambiguous"} & reading.counts.keys()


@pytest.mark.parametrize("language", ["ja", "zh-Hans", "ko", "de", "es", "it"])
def test_every_word_that_is_given_out_is_read_as_its_tag(sample, language) -> None:
    words = [(word, name) for name, _, _ in sample.names() for word in sample.translations(name, language)]
    assert len(words) > 40
    for word, name in words:
        read = to_words(name).replace("(", r"\(").replace(")", r"\)")
        assert normalise(word, sample, language=language).text == read


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("(長い髪:1.2), 笑顔", "(long hair:1.2), smile"),
        ("((猫耳)), (笑顔, 制服:0.8)", "((cat ears)), (smile, school uniform:0.8)"),
        (r"猫耳 \(本\), 笑顔", r"猫耳 \(本\), smile"),
        ("猫耳,\n笑顔", "cat ears,\nsmile"),
        ("猫耳、\n笑顔", "cat ears,\nsmile"),
        ("^_^, 猫耳", "^_^, cat ears"),
        ("にっこり, 猫耳", "^_^, cat ears"),
        ("@bold_brush, 猫耳", "@bold brush, cat ears"),
        ("猫耳; 笑顔;)", "cat ears; 笑顔;)"),
        ("", ""),
        ("、、", ", "),
    ],
)
def test_weights_escapes_lines_and_signs_stay(sample, typed, read) -> None:
    assert normalise(typed, sample, language="ja").text == read


def test_with_plain_parentheses_nothing_is_cut_or_escaped(sample) -> None:
    assert normalise("(長い髪:1.2), 猫耳", sample, emphasis=False).text == "(長い髪:1.2), cat ears"


@given(st.text(alphabet="猫耳、, ，;；()\\:1.2 \nab。.!", max_size=40))
def test_cutting_loses_nothing(prompt) -> None:
    for known in (lambda text: False, lambda text: len(text) % 2 == 0):
        assert join(cut(prompt, known)) == prompt
        assert join(cut(prompt, known, emphasis=False)) == prompt


@given(data=st.data())
def test_weights_are_those_that_were_typed(sample, data) -> None:
    words = ["長い髪", "猫耳", "no such word", "smile", "女の子", "^_^", r"a \(b\)"]
    groups = st.lists(st.sampled_from(words), min_size=1, max_size=3).map(", ".join)
    weighed = st.tuples(groups, st.sampled_from(["{}", "({})", "({}:1.3)", "(({}):0.7)"])).map(
        lambda pair: pair[1].format(pair[0])
    )
    prompt = ", ".join(data.draw(st.lists(weighed, min_size=1, max_size=4)))
    reading = normalise(prompt, sample, language="ja")
    assert [weight for _, weight in emphasis.parse(reading.text)] == [weight for _, weight in emphasis.parse(prompt)]
    assert normalise(reading.text, sample, language="ja").text == reading.text  # read already


def test_what_is_not_known_is_kept_and_told(sample) -> None:
    reading = normalise("猫耳, 宇宙船, no such tag", sample)
    assert reading.text == "cat ears, 宇宙船, no such tag"
    assert [part.status for part in reading.parts] == ["read", "unknown", "unknown"]
    assert "宇宙船: not known, kept as it is" in reading.lines()


@pytest.mark.parametrize(
    ("prompt", "language", "read", "choice"),
    [
        ("Gift, Esel", "auto", "poison, donkey", ("poison", "gift")),  # the rest is German
        ("Gift, Esel", "de", "poison, donkey", None),
        ("1girl, gift", "auto", "1girl, gift", None),  # an English prompt
        ("burro", "auto", "donkey", ("donkey", "butter")),
        ("burro, sonrisa", "auto", "donkey, smile", None),  # sonrisa is Spanish alone
        ("burro, sorriso", "auto", "butter, smile", None),
        ("rin", "auto", "kaede rin", ("kaede_rin", "ringo_natsume")),
    ],
)
def test_what_means_several_things_is_told_with_the_choice(sample, prompt, language, read, choice) -> None:
    reading = normalise(prompt, sample, language=language)
    assert reading.text == read
    assert next((part.choice for part in reading.parts if part.status == "ambiguous"), None) == choice
    assert any("may also mean" in line for line in reading.lines()) == (choice is not None)


def test_words_without_spaces_are_found_behind_each_other(sample) -> None:
    reading = normalise("猫耳の女の子、黒髪長い髪", sample)
    assert reading.text == "cat ears, 1girl, black hair, long hair"
    assert [part.status for part in reading.parts] == ["composed", "composed"]
    assert normalise("猫耳の宇宙船", sample).text == "猫耳の宇宙船"  # all of it or nothing


@pytest.mark.parametrize(
    "sentence",
    [
        "A girl with long hair stands in the rain, smile, at night.",
        "公園で女の子が走っている、笑顔。",
        "Una chica con pelo largo camina por la playa, sonrisa.",
    ],
)
def test_sentences_are_left_alone_and_tags_around_them_are_read(sample, sentence) -> None:
    assert normalise(sentence, sample).text == sentence
    reading = normalise(f"猫耳, {sentence} 長い髪, 制服", sample, language="ja")
    assert reading.text == f"cat ears, {sentence} long hair, school uniform"
    assert reading.counts["sentence"] >= 2


def test_forbidden_words_go_with_their_emphasis_and_are_only_counted(sample) -> None:
    reading = normalise("ロリ, 猫耳, (loli:1.2), (shota, 笑顔), ((しょた))", sample)
    assert reading.text == "cat ears, (smile)" and reading.counts["blocked"] == 4
    told = str(reading.to_json()) + reading.typed + "".join(reading.lines())
    assert not any(word in told.casefold() for word in ("ロリ", "loli", "shota", "しょた"))
    assert "forbidden parts, taken out: 4" in reading.lines()


@pytest.mark.parametrize(
    "part", ["cute loli", "可爱的萝莉", "ロリ少女", "милая лоли", "(blonde loli:1.2)", r"loli \\(x\\)", "[loli]"]
)
def test_a_part_that_holds_a_forbidden_word_goes_whole(sample, part) -> None:
    reading = normalise(f"猫耳, {part}, 笑顔", sample)
    assert reading.text == "cat ears, smile" and reading.counts["blocked"] == 1


def test_a_language_that_is_none_is_told(sample) -> None:
    with pytest.raises(ConfigError, match="not the code of a language"):
        normalise("猫耳", sample, language="Japanese, please")
