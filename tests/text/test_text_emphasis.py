r"""Emphasis is read by ComfyUI's rules, literal text survives, and marks of emphasis never reach the words.

Expected values were worked out by hand from the rules of ComfyUI's parser, its handling of parentheses that do not pair included.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from animeflow.text.emphasis import escape, parse, plain, unescape

TWICE, THRICE = 1.1 * 1.1, 1.1 * 1.1 * 1.1
CASES = {
    # no emphasis
    "": [("", 1.0)],
    "1girl, smile": [("1girl, smile", 1.0)],
    "[smile], {smile}": [("[smile], {smile}", 1.0)],
    "@wlop, :d, score_7": [("@wlop, :d, score_7", 1.0)],
    "re:zero, 16:9": [("re:zero, 16:9", 1.0)],
    # one pair multiplies by 1.1 and nests
    "(smile)": [("smile", 1.1)],
    "((smile))": [("smile", TWICE)],
    "(((smile)))": [("smile", THRICE)],
    "a (b) c": [("a ", 1.0), ("b", 1.1), (" c", 1.0)],
    "(a (b) c)": [("a ", 1.1), ("b", TWICE), (" c", 1.1)],
    "(a)(b)": [("a", 1.1), ("b", 1.1)],
    # a number sets the weight, also inside another weight
    "(chibi:2)": [("chibi", 2.0)],
    "(chibi:2), 1girl": [("chibi", 2.0), (", 1girl", 1.0)],
    "((chibi:2))": [("chibi", 2.0)],
    "((chibi):2)": [("chibi", 2.0 * 1.1)],
    "(a (b:1.5) c:0.5)": [("a ", 0.5), ("b", 1.5), (" c", 0.5)],
    "(a (b) c:0.5)": [("a ", 0.5), ("b", 0.5 * 1.1), (" c", 0.5)],
    "(a:0)": [("a", 0.0)],
    "(a:-1)": [("a", -1.0)],
    "(a: 1.2 )": [("a", 1.2)],
    "(a:1e-1)": [("a", 0.1)],
    "(a:.5)": [("a", 0.5)],
    "(a:1)": [("a", 1.0)],
    # the last colon counts, and only with a number behind it
    "(re:zero)": [("re:zero", 1.1)],
    "(re:zero:1.3)": [("re:zero", 1.3)],
    "(a:1.2:b)": [("a:1.2:b", 1.1)],
    "(a:)": [("a:", 1.1)],
    "(:1.2)": [(":1.2", 1.1)],
    "(:d:1.2)": [(":d", 1.2)],
    "(a:1.2 )b": [("a", 1.2), ("b", 1.0)],
    "(a:1,2)": [("a:1,2", 1.1)],
    "((a:1.2) b)": [("a", 1.2), (" b", 1.1)],
    # escapes
    r"hatsune miku \(vocaloid\)": [("hatsune miku (vocaloid)", 1.0)],
    r"(hatsune miku \(vocaloid\):1.3)": [("hatsune miku (vocaloid)", 1.3)],
    r"(a \(b:2\))": [("a (b:2)", 1.1)],
    r"\(a:2\)": [("(a:2)", 1.0)],
    r"(a:2\))": [("a:2)", 1.1)],
    r"\\(": [(r"\(", 1.0)],
    "a\\b\\\n": [("a\\b\\\n", 1.0)],
    # pairs without content and parentheses that do not pair
    "()": [("", 1.0)],
    "a () b": [("a ", 1.0), (" b", 1.0)],
    "(": [("(", 1.0)],
    ")": [(")", 1.0)],
    "a (b": [("a ", 1.0), ("(b", 1.0)],
    "a) b": [("a) b", 1.0)],
    "a) (b) c": [("a) (b) c", 1.0)],  # the one too many takes the next one that opens
    "a) (b (c) d": [("a) (b ", 1.0), ("c", 1.1), (" d", 1.0)],
    "(a (b)": [("a ", 1.1), ("(b", 1.1)],  # starts and ends with a parenthesis: read as a pair
    "(a (b) c": [("(a (b) c", 1.0)],
    "(a:(b:2)": [("a:", 2.0), ("(b", 2.0)],
    "(a))": [("a", 1.1), (")", 1.0)],
    ":-) (a:2)": [(":-) (a:2)", 1.0)],
    ":-( (a:2) b": [(":-", 1.0), ("( (a:2) b", 1.0)],
    # spaces and lines stay
    " (a\nb:1.2)\n": [(" ", 1.0), ("a\nb", 1.2), ("\n", 1.0)],
}

texts = st.text(st.characters(codec="utf-8") | st.sampled_from("()\\:.12[]@, "))
words = st.text(st.sampled_from("ab \\[]@,_!é\n"))


@pytest.mark.parametrize("prompt", CASES)
def test_cases(prompt):
    assert parse(prompt) == CASES[prompt]


@given(texts)
def test_escaped_text_is_one_piece_of_itself(text):
    assert parse(escape(text)) == [(text, 1.0)]
    assert unescape(escape(text)) == text


@given(texts)
def test_every_prompt_has_pieces_with_finite_weights(prompt):
    pieces = parse(prompt)
    assert pieces and all(math.isfinite(weight) for _, weight in pieces)
    assert all(text for text, _ in pieces) or pieces == [("", 1.0)]


def test_no_weight_is_not_a_number():
    assert parse("(a:nan)") == [("a:nan", 1.1)]
    assert parse("(tuesday:inf)") == [("tuesday:inf", 1.1)]


@st.composite
def prompts(draw, depth: int = 3) -> tuple[str, list[tuple[str, float]]]:
    """A prompt with pairs that nest, and its pieces, built side by side."""
    pieces: list[tuple[str, float]] = []

    def grow(level: int, weight: float) -> str:
        written = ""
        for _ in range(draw(st.integers(1, 3))):
            kind = draw(st.sampled_from(["text", "pair", "weight"])) if level else "text"
            if kind == "text":
                text = draw(st.text(st.sampled_from("ab ()@\\"), min_size=1)) + "."  # no backslash before a mark
                if pieces and written and not written.endswith(")"):
                    continue  # two texts side by side are one
                pieces.append((text, weight))
                written += escape(text)
            elif kind == "pair":
                written += f"({grow(level - 1, weight * 1.1)})"
            else:
                number = draw(st.sampled_from(["2", "0.5", "-1", "1.25", "0"]))
                written += f"({grow(level - 1, float(number))}:{number})"
        return written

    return grow(depth, 1.0), pieces


@given(prompts())
def test_pairs_nest_to_any_depth(case):
    prompt, pieces = case
    assert parse(prompt) == pieces
    assert plain(prompt) == "".join(text for text, _ in pieces)


@given(words)
def test_without_parentheses_there_is_one_piece(prompt):
    assert parse(prompt) == [(prompt, 1.0)]


def test_depth_has_no_limit():
    (text, weight), *rest = parse("(" * 1500 + "a" + ")" * 1500)
    assert (text, rest) == ("a", []) and weight == pytest.approx(1.1**1500)
    assert parse("(" * 5000) == [("(" * 5000, 1.0)]


def test_unescape_leaves_emphasis_alone():
    assert unescape(r"(miku \(vocaloid\):1.2)") == "(miku (vocaloid):1.2)"
    assert unescape("(miku)\\") == "(miku)\\"
