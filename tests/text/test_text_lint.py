"""Every planted fault of a tag or a prompt is found once, with how many pictures have it; sound ones are left in peace."""

from __future__ import annotations

import json

import pytest
from tag_toys import make, table

from animeflow.model.unread import unread
from animeflow.text.lint import FAULTS, lint_prompts, lint_tags

TAGS = json.dumps(
    [
        {"name": "old_word", "post_count": 3, "category": 0, "is_deprecated": True},
        {"name": "long_hair", "post_count": 900, "category": 0, "is_deprecated": False},
    ]
)
ROWS = table(
    "kei,artist,70,,,,,,,",
    "smile,general,60,smiling,,,笑顔,,,",
    "^_^,general,50,,,,,,,",
    "saber_(fate),character,40,,,,,,,",
    "score_7,meta,5,,,,,,,",
)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return make(tmp_path_factory.mktemp("lint"), tags__json=TAGS, mine__csv=ROWS)[0]


def no_caret(text: str) -> list[str]:
    return [sign for sign in text if sign == "^"]


def found(lint) -> dict[str, list[tuple[str, str, int]]]:
    faults = [fault for fault in FAULTS if lint.found[fault]]
    return {fault: [(each.text, each.detail, each.count) for each in lint.found[fault]] for fault in faults}


def test_faults_of_stored_tags(database) -> None:
    tags = [
        *[("long_hair", "general", 9), ("smile", "general", 8), ("kei", "artist", 7), ("score_7", "meta", 6)],
        *[("^_^", "general", 5), ("old_word", "general", 4), ("smiling", "general", 3), ("long_hiar", "general", 2)],
        *[
            ("@kei", "artist", 2),
            ("@@kei", "artist", 1),
            ("@smile", "general", 1),
            ("Long Hair", "general", 1),
            ("loli", "general", 1),
        ],
    ]
    lint = lint_tags(tags, database, unread=no_caret)
    twice = "the sign is written by captions; in the name it would be there twice"
    assert found(lint) == {
        "unreadable": [("^_^", "no token for ^", 5)],
        "artist sign": [("@kei", twice, 2), ("@@kei", twice, 1), ("@smile", "smile is stored without @", 1)],
        "unknown": [("long_hiar", "did you mean long_hair?", 2)],
        "deprecated": [("old_word", "no longer used where it is from", 4)],
        "alias": [("smiling", "another name of smile", 3)],
        "form": [("Long Hair", "stored as long_hair", 1)],
    }
    assert (lint.looked_at, lint.blocked) == (13, 1) and "loli" not in str(lint.to_json()) + "".join(lint.lines())
    told = lint.to_json()["faults"]["artist sign"]
    assert (told["tags"], told["uses"]) == (3, 4)  # the most frequent first
    assert [(each["text"], each["count"]) for each in told["examples"]] == [("@kei", 2), ("@@kei", 1), ("@smile", 1)]


@pytest.mark.parametrize(
    ("prompt", "faults"),
    [
        (r"1 x, long hair, @kei, saber \(fate\), ^_^, score_7, (smile:1.2)", {"unknown": ["1_x"]}),
        ("long_hair, smile", {"underscores": ["long_hair"]}),
        ("kei, smile", {"artist sign": ["kei"]}),
        ("@@kei", {"artist sign": ["@@kei"]}),
        ("@smile", {"artist sign": ["@smile"]}),
        ("saber (fate), smile", {"parentheses": ["saber (fate)"]}),
        (
            "oil painting (medium), smile",
            {"parentheses": ["oil painting (medium)"], "unknown": ["medium", "oil_painting"]},
        ),
        ("(smile), ((long hair)), (smile, long hair:1.1)", {}),
        ("smiling, old word", {"alias": ["smiling"], "deprecated": ["old word"]}),
        ("A girl with long_hair stands in the rain.", {}),
    ],
)
def test_faults_of_prompts(database, prompt, faults) -> None:
    lint = lint_prompts([prompt], database, artist_sign="@")
    assert {fault: sorted(each.text for each in lint.found[fault]) for fault in FAULTS if lint.found[fault]} == faults


def test_a_family_without_a_sign_wants_none(database) -> None:
    assert found(lint_prompts(["kei, smile"], database)) == {}
    assert found(lint_prompts(["@kei, smile"], database)) == {"artist sign": [("@kei", "write kei", 1)]}


def test_signs_that_the_real_tokenizer_has_not(test_data, database) -> None:
    pieces = unread(test_data / "tokenizers" / "t5")
    assert {
        text: "".join(pieces(text)) for text in (">_<", "^_^", "long hair", "猫耳, hat", "♥", "|_|", "=_=", "@kei")
    } == {
        ">_<": "<",
        "^_^": "^^",
        "long hair": "",
        "猫耳, hat": "猫耳",
        "♥": "♥",
        "|_|": "",
        "=_=": "",
        "@kei": "",
    }
    lint = lint_tags(
        ((name, category, count or 0) for name, category, count in database.names()), database, unread=pieces
    )
    assert [each.text for each in lint.found["unreadable"]] == ["^_^"]


def test_a_folder_without_a_tokenizer_is_told(tmp_path) -> None:
    with pytest.raises(Exception, match="no tokenizer"):
        unread(tmp_path)
