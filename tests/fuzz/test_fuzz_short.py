"""A few hundred hostile files through every door; the long run is `python scripts/fuzz.py`. And that the fuzzer would notice."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hostile import crew, doors
from hostile.cases import FORMATS, SHARES, STEP, Case, make
from hostile.layouts import SOURCES
from hostile.pictures import MAKERS, seeds

CASES, SEED = 200, 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def test_no_case_crashes_hangs_or_writes_elsewhere(folder):
    answers = list(crew.run(range(CASES), seed=SEED, workers=1, rules=crew.Rules(seconds=60), folder=folder))
    assert sorted(answer.number for answer in answers) == list(range(CASES))
    assert [answer for answer in answers if answer.is_finding] == []
    assert {answer.format for answer in answers} == set(SHARES)
    assert {answer.what for answer in answers} == {
        "taken",
        "refused",
        "error",
    }  # some get in, so more than heads is looked at


def test_a_case_is_the_same_every_time():
    forward = {number: make(3, number) for number in range(100)}
    assert forward == {number: make(3, number) for number in reversed(range(100))}  # whatever was made before it
    assert make(3, 7).files != make(4, 7).files


def test_a_hundred_cases_have_all_formats_in_their_shares():
    assert Counter(FORMATS[number * STEP % len(FORMATS)] for number in range(300, 400)) == Counter(SHARES)


def test_every_kind_of_source_has_a_door_and_a_layout():
    from animeflow.app import sources

    text = Path(sources.__file__).read_text()
    kinds = {word for word in ("toonworld", "folder", "danbooru", "gallery_dl", "booru_api", "hydrus", "imagefolder",
    "indexed_tar", "waifuc",
                               "unpacked") if f'"{word}":' in text}  # fmt: skip
    assert set(SOURCES) == set(doors.SOURCES) == kinds | {"kohya"}


@pytest.mark.parametrize("kind", MAKERS)
def test_seeds_are_good_pictures(tmp_path, kind):
    """A seed that was refused at once would test nothing behind its header."""
    for number, data in enumerate(seeds(kind)):
        (tmp_path / str(number)).write_bytes(data)
        assert doors.picture(tmp_path / str(number))[0] == "taken", number


# -- the fuzzer notices --------------------------------------------------------------------------------------------------


def crash(given: Path, target: Path) -> None:
    raise KeyError("x")


def wait(given: Path, target: Path) -> None:
    time.sleep(60)


def die(given: Path, target: Path) -> None:
    os.abort()


def eat(given: Path, target: Path) -> None:
    bytearray(b"x") * (300 << 20)


def write_outside(given: Path, target: Path) -> None:
    (target.parent / "outside" / "new").write_text("x")


def write_and_remove(given: Path, target: Path) -> None:
    """No look at the folders afterwards could tell."""
    write_outside(given, target)
    (target.parent / "outside" / "new").unlink()


def by_a_link(given: Path, target: Path) -> None:
    (target / "link").symlink_to(target.parent / "outside")
    (target / "link" / "new").write_text("x")


def change_given(given: Path, target: Path) -> None:
    next(file for file in given.rglob("*") if file.is_file()).write_text("other")


def unpickle(given: Path, target: Path) -> None:
    pickle.loads(pickle.dumps(os.getcwd))


def start(given: Path, target: Path) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def behave(given: Path, target: Path) -> None:
    (target / "new").write_text("x")


WAYS = {
    crash: "crash", wait: "hang", die: "died", eat: "memory", write_outside: "outside", write_and_remove: "outside",
    by_a_link: "outside",
    change_given: "outside", unpickle: "did", start: "did", behave: "taken",
}  # fmt: skip


def misbehave(case: Case, given: Path, target: Path) -> tuple[str, str]:
    list(WAYS)[case.number](given, target)
    return "taken", ""


def test_what_no_case_may_do_is_noticed(folder):
    rules = crew.Rules(seconds=2, patience=5, memory_mib=200)  # patience: a busy machine is no hang
    answers = crew.run(range(len(WAYS)), seed=0, workers=1, rules=rules, folder=folder / "misbehaving", door=misbehave)
    assert {answer.number: answer.what for answer in answers} == dict(enumerate(WAYS.values()))
