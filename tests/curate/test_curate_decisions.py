"""The log of decisions: what was said stays said, in whatever order logs meet and whenever a writer dies."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from curate_rows import catalogue, post, sha, uid

from animeflow.app.verbs import decide
from animeflow.core.errors import ConfigError, DataError
from animeflow.core.lock import Lock
from animeflow.curate.decided import decided
from animeflow.curate.decisions import DecisionLog
from animeflow.curate.event import Decision, Event
from animeflow.curate.find import find
from animeflow.curate.fold import NOTHING, fold


def say(log: DecisionLog, reviewer: str, new: str, number: int = 0, reason: str = "", kind: str = "review") -> Event:
    (event,) = log.append([Decision(sha(number), new, reason, kind=kind)], reviewer=reviewer)
    return event


def test_the_last_word_of_a_person_counts_and_all_are_kept(tmp_path: Path):
    log = DecisionLog(tmp_path)
    assert log.state(sha(0)) == NOTHING
    say(log, "ana", "reject", reason="ai")
    event = say(log, "ana", "keep")
    assert (event.seq, event.old, event.new) == (2, "reject", "keep")
    state = DecisionLog(tmp_path).state(sha(0))
    assert (state.review, state.reviewers, state.disputed, state.reviewed_at) == ("keep", ("ana",), False, event.ts)
    assert [each.new for each in DecisionLog(tmp_path).history(sha(0))] == ["reject", "keep"]


def test_people_who_differ_put_the_picture_into_the_queue_and_one_more_word_settles_it(tmp_path: Path):
    log = DecisionLog(tmp_path)
    say(log, "ana", "keep")
    say(log, "ben", "reject", reason="ai")
    state = log.state(sha(0))
    assert (state.review, state.disputed, state.reviewers) == ("flag", True, ("ana", "ben"))
    assert "ana: keep" in state.reason and "ben: reject ai" in state.reason and log.queue() == [sha(0)]
    settled = say(log, "cleo", "reject", reason="ai")
    assert settled.old == "flag" and len(settled.over) == 2
    assert (log.state(sha(0)).review, log.state(sha(0)).disputed, log.queue()) == ("reject", False, [])


def test_a_flag_is_answered_by_somebody_elses_word_and_raises_no_dispute(tmp_path: Path):
    log = DecisionLog(tmp_path)
    say(log, "ana", "flag", reason="is this ai?")
    assert (log.state(sha(0)).review, log.state(sha(0)).disputed) == ("flag", False)
    say(log, "ben", "keep")
    assert log.state(sha(0)).review == "keep"
    say(log, "cleo", "flag")
    assert log.state(sha(0)).review == "flag"


def test_an_undo_is_an_event_and_can_be_undone(tmp_path: Path):
    log = DecisionLog(tmp_path)
    say(log, "ana", "reject", reason="crop")
    say(log, "ana", "keep")
    before = (tmp_path / "decisions.jsonl").read_bytes()
    undone = log.undo(2, reviewer="ana")
    assert (undone.kind, undone.old, undone.new) == ("undo", "keep", "reject")
    assert (log.state(sha(0)).review, log.state(sha(0)).reason) == ("reject", "crop")
    again = log.undo(undone.seq, reviewer="ben")
    assert again.new == "keep" == DecisionLog(tmp_path).state(sha(0)).review
    assert (tmp_path / "decisions.jsonl").read_bytes().startswith(before)
    with pytest.raises(ConfigError, match="no decision 99"):
        log.undo(99, reviewer="ana")


def test_an_undo_of_an_undo_says_which_origin_is_stated_again(tmp_path: Path):
    log = DecisionLog(tmp_path)
    with pytest.raises(ConfigError, match="nothing was decided"):
        log.undo(1, reviewer="ana")
    say(log, "ana", "human", kind="origin")
    said = [log.undo(number, reviewer="ana") for number in (1, 2, 3)]
    assert [(event.old, event.new) for event in said] == [("human", "none"), ("none", "human"), ("human", "none")]
    assert log.state(sha(0)).origin is None


def test_the_origin_that_people_state_is_the_most_cautious_until_they_agree(tmp_path: Path):
    log = DecisionLog(tmp_path)
    say(log, "ana", "human", kind="origin")
    say(log, "ana", "keep")
    assert (log.state(sha(0)).origin, log.state(sha(0)).review) == ("human", "keep")
    say(log, "ben", "ai", kind="origin")
    state = log.state(sha(0))
    assert (state.origin, state.disputed, state.review) == ("ai", True, "flag")
    say(log, "ana", "human", kind="origin")
    assert log.state(sha(0)).origin == "human" and log.state(sha(0)).review == "keep"


@pytest.mark.parametrize("new, kind", [("kep", "review"), ("robot", "origin"), ("keep", "origin"), ("keep", "colour")])
def test_what_cannot_be_said_is_refused(tmp_path: Path, new: str, kind: str):
    with pytest.raises(ConfigError):
        say(DecisionLog(tmp_path), "ana", new, kind=kind)
    with pytest.raises(ConfigError, match="nobody"):
        say(DecisionLog(tmp_path), " ", "keep")
    assert not (tmp_path / "decisions.jsonl").exists() or not (tmp_path / "decisions.jsonl").read_bytes()


# merging --------------------------------------------------------------------------------------------------------------


def random_logs(folder: Path, seed: int) -> list[DecisionLog]:
    """Three people's logs over eight pictures, that have met each other now and then."""
    rng, logs = random.Random(seed), [DecisionLog(folder / name) for name in ("ana", "ben", "cleo")]
    for _ in range(60):
        log = rng.choice(logs)
        if rng.random() < 0.1:
            log.merge(rng.choice([each for each in logs if each is not log]))
        elif rng.random() < 0.15 and log.seq:
            log.undo(rng.randint(1, log.seq), reviewer=log.folder.name)
        elif rng.random() < 0.2:
            say(
                log,
                rng.choice(["ana", "ben", "cleo"]),
                rng.choice(["human", "ai", "none"]),
                rng.randrange(8),
                kind="origin",
            )
        else:
            new = rng.choice(["keep", "reject", "flag", "none"])
            say(log, rng.choice([log.folder.name, "guest"]), new, rng.randrange(8), reason=rng.choice(["", "ai"]))
    return logs


@pytest.mark.parametrize("seed", range(4))
def test_logs_meet_in_any_order_and_say_the_same(tmp_path: Path, seed: int):
    logs, ends = random_logs(tmp_path, seed), []
    for number, order in enumerate(permutations(logs)):
        met = DecisionLog(tmp_path / f"met_{number}")
        for log in order:
            met.merge(log)
        size = met.file.stat().st_size
        assert not any(met.merge(log) for log in order) and met.file.stat().st_size == size
        ends.append(dict(DecisionLog(met.folder).states()))
        assert {event.id for event in met.events()} == {event.id for log in logs for event in log.events()}
        assert sorted(event.seq for event in met.events()) == list(range(1, len(met) + 1))
    assert all(end == ends[0] for end in ends) and len({state.review for state in ends[0].values()}) > 1


def test_the_fold_asks_for_no_order(tmp_path: Path):
    log = random_logs(tmp_path, 9)[0]
    for number in range(8):
        events = log.history(sha(number))
        shuffled = random.Random(number).sample(events, len(events))
        assert fold(shuffled) == fold(events)


def test_opposite_words_of_two_logs_meet_in_the_queue(tmp_path: Path):
    ana, ben = DecisionLog(tmp_path / "ana"), DecisionLog(tmp_path / "ben")
    say(ana, "ana", "keep")
    say(ben, "ben", "reject")
    ana.merge(ben)
    assert ana.queue() == [sha(0)] and {event.new for event in ana.history(sha(0))} == {"keep", "reject"}


def test_a_log_of_another_program_without_ids_is_taken_once(tmp_path: Path):
    line = {"seq": 1, "ts": "2026-01-01T00:00:00.000000Z", "reviewer": "zoe", "sha256": sha(3), "old": "none", "new": "keep",
            "reason": "", "dwell_ms": 5, "batch": None, "tool_version": "x"}  # fmt: skip
    (tmp_path / "zoe.jsonl").write_text(json.dumps(line) + "\n")
    log = DecisionLog(tmp_path / "mine")
    for count in (1, 0):
        assert len(log.merge(DecisionLog(tmp_path, name="zoe.jsonl"))) == count
    assert log.state(sha(3)).review == "keep"


# crashes and many writers ---------------------------------------------------------------------------------------------

WRITER = """
import sys
sys.path.insert(0, {tests!r})
from curate_rows import sha
from animeflow.curate.decisions import DecisionLog
from animeflow.curate.event import Decision
log, number = DecisionLog({folder!r}), {start}
print("ready", flush=True)
sys.stdin.readline()
while number < {end}:
    batch = [Decision(sha(number + i), "keep", "word " * 50) for i in range(5)]
    for event in log.append(batch, reviewer={name!r}):
        print(event.id, flush=True)
    number += 5
"""


def writer(folder: Path, name: str, start: int, end: int = 10**9) -> subprocess.Popen[bytes]:
    code = WRITER.format(tests=str(Path(__file__).parent), folder=str(folder), name=name, start=start, end=end)
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def start(*processes: subprocess.Popen[bytes]) -> None:
    """Let them write, all at once."""
    assert all(process.stdout is not None and process.stdout.readline() == b"ready\n" for process in processes)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()


def test_every_decision_that_was_confirmed_survives_a_kill(tmp_path: Path):
    confirmed: set[str] = set()
    for round_ in range(2):
        process = writer(tmp_path, "ana", round_ * 10**6)
        start(process)
        assert process.stdout is not None
        for _ in range(random.Random(round_).randint(20, 60)):
            confirmed.add(process.stdout.readline().decode().strip())
        os.kill(process.pid, signal.SIGKILL)
        confirmed |= {line.decode().strip() for line in process.stdout.readlines() if len(line) == 33}
        process.wait()
        log = DecisionLog(tmp_path)
        assert confirmed <= {event.id for event in log.events()}
    say(log, "ben", "keep", 5)
    events = list(DecisionLog(tmp_path).events())
    assert sorted(event.seq for event in events) == list(range(1, len(events) + 1))


def test_two_writers_take_turns(tmp_path: Path):
    writers = [writer(tmp_path, "ana", 0, 100), writer(tmp_path, "ben", 50, 150)]
    start(*writers)
    told = [line for each in writers for line in each.communicate()[0].split()]
    log = DecisionLog(tmp_path)
    events = sorted(log.events(), key=lambda event: event.seq)
    assert [event.seq for event in events] == list(range(1, 201)) and len(told) == 200
    assert {event.id for event in events} == {each.decode() for each in told}
    assert [event.ts for event in events] == sorted({event.ts for event in events}), "the times rise with the numbers"


def test_a_writer_waits_for_its_turn_and_sees_what_was_written_before_it(tmp_path: Path):
    donor, log = DecisionLog(tmp_path / "donor"), DecisionLog(tmp_path)
    say(donor, "ana", "keep")
    turn = Lock(tmp_path / ".decisions.jsonl.lock", signed=True)
    assert turn.take()
    second = threading.Thread(target=say, args=(log, "ben", "reject"))
    second.start()
    second.join(0.3)
    assert second.is_alive() and not log.file.exists()
    log.file.write_bytes(donor.file.read_bytes())
    turn.release()
    second.join()
    assert [(each.seq, each.reviewer, each.old) for each in log.history(sha(0))] == [
        (1, "ana", "none"),
        (2, "ben", "keep"),
    ]


@pytest.mark.parametrize("torn", [b'{"seq":3,"ts":"20', b"\0\0\0\0", b'{"seq": 3}'])
def test_a_torn_line_is_told_of_and_put_aside(tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture):
    log = DecisionLog(tmp_path)
    say(log, "ana", "keep", 1)
    whole = log.file.read_bytes()
    log.file.write_bytes(whole + torn)
    found = DecisionLog(tmp_path)
    assert len(found) == 1 and found.torn == len(torn) and log.file.read_bytes() == whole + torn, (
        "a reader mends nothing"
    )
    with caplog.at_level(logging.WARNING):
        say(found, "ana", "keep", 2)
    assert "middle of a line" in caplog.text and (tmp_path / "decisions.torn").read_bytes() == torn + b"\n"
    assert log.file.read_bytes().startswith(whole + b'{"seq":2') and len(DecisionLog(tmp_path)) == 2


@pytest.mark.parametrize("torn", [b'{"seq":3,"ts":"20', b"\0\0\0\0"])
def test_who_only_reads_is_told_of_a_torn_line_once(tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture):
    folder = tmp_path / "catalogue"
    catalogue(folder, [post(number) for number in range(3)])
    say(log := DecisionLog(folder), "ana", "reject", 1)
    decided(folder)
    assert not caplog.text
    with open(log.file, "ab") as file:
        file.write(torn)
    for _ in range(2):
        assert decided(folder)["review"].to_pylist() == ["reject"]
    (told,) = [record.getMessage() for record in caplog.records]
    assert str(log.file) in told and f"({len(torn)} bytes)" in told and "decisions.torn" in told
    assert log.file.read_bytes().endswith(torn), "a reader mends nothing"


def test_a_broken_line_within_the_log_is_not_passed_over(tmp_path: Path):
    log = DecisionLog(tmp_path)
    say(log, "ana", "keep", 1)
    log.file.write_bytes(b"rubbish\n" + log.file.read_bytes())
    with pytest.raises(DataError, match="no decision"):
        DecisionLog(tmp_path)


def test_a_disk_that_is_full_leaves_no_half_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = DecisionLog(tmp_path)
    say(log, "ana", "keep", 1)
    real = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) < 500:
            raise OSError(28, "No space left on device")
        return real(handle, data[:-300])

    before = log.file.read_bytes()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DataError, match="No space"):
        log.append([Decision(sha(number), "keep") for number in range(2, 6)], reviewer="ana")
    monkeypatch.undo()
    assert log.file.read_bytes() == before and len(log) == 1 and log.state(sha(3)) == NOTHING
    say(log, "ana", "keep", 3)
    assert len(DecisionLog(tmp_path)) == 2


def test_a_reader_follows_a_writer_without_reading_all_again(tmp_path: Path):
    one, other = DecisionLog(tmp_path), DecisionLog(tmp_path)
    say(one, "ana", "keep", 1)
    assert [event.new for event in other.refresh()] == ["keep"] and other.refresh() == []
    say(other, "ben", "reject", 1)
    one.refresh()
    assert one.state(sha(1)) == other.state(sha(1)) and one.state(sha(1)).disputed


# columns and the verb -------------------------------------------------------------------------------------------------


def test_the_columns_are_the_fold_and_follow_the_log(tmp_path: Path):
    log = DecisionLog(tmp_path)
    assert len(decided(tmp_path)) == 0
    for number in range(20):
        say(log, "ana", "keep" if number % 3 else "reject", number, reason="ai")
    for _ in range(2):  # the second comes from the cache
        rows = {row["uid"]: row for row in decided(tmp_path).to_pylist()}
        assert list(rows) == sorted(uid(number) for number in range(20))
        assert all(rows[uid(number)]["review"] == ("keep" if number % 3 else "reject") for number in range(20))
    log.undo(1, reviewer="ana")
    assert uid(0) not in decided(tmp_path)["uid"].to_pylist()


def test_pictures_are_found_by_what_a_person_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "set" / "catalogue"
    catalogue(folder, [post(number) for number in range(30)])
    monkeypatch.chdir(tmp_path)
    for word in (
        sha(7),
        sha(7)[:8],
        sha(7)[:10].upper(),
        "pictures/0007.png",
        "set/pictures/0007.png",
        "./pictures/../pictures/0007.png",
    ):
        assert find(folder, [word, "pictures/0003.png"]) == [
            (uid(7), sha(7), "pictures/0007.png"),
            (uid(3), sha(3), "pictures/0003.png"),
        ]
    with pytest.raises(ConfigError, match=r"did you mean 'pictures/0007.png'"):
        find(folder, ["picture/0007.png"])
    assert find(folder, ["0007.png"]) == [(uid(7), sha(7), "pictures/0007.png")], "from the root of their source"
    with pytest.raises(ConfigError, match="no picture"):
        find(folder, ["007.png"])
    folder = tmp_path / "other" / "catalogue"
    catalogue(folder, [replace(post(number), path=f"{'ab'[number % 2]}/x/{number // 2}.png") for number in range(4)])
    assert find(folder, ["b/x/1.png"])[0][0] == uid(3)
    with pytest.raises(ConfigError, match=r"2 paths .* end in 'x/1.png'"):
        find(folder, ["x/1.png"])
    with pytest.raises(ConfigError, match="no picture"):
        find(folder, ["abcdef0"])


def test_the_verb_writes_what_it_says_and_undoes_it(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = tmp_path / "catalogue"
    catalogue(folder, [post(number) for number in range(5)])
    words = [f"set={tmp_path}"]
    decide.run(words, reject=["pictures/0001.png"], reason="ai", reviewer="ana", dry_run=True)
    assert not (folder / "decisions.jsonl").exists()
    decide.run(words, reject=["pictures/0001.png"], keep=[sha(2)], origin=[("ai", sha(3))], reason="ai", reviewer="ana")
    log = DecisionLog(folder)
    assert [log.state(sha(number)).review for number in (1, 2, 3)] == ["reject", "keep", "none"]
    assert log.state(sha(3)).origin == "ai" and log.state(sha(1)).reason == "ai"
    other = DecisionLog(tmp_path / "ben")
    say(other, "ben", "keep", 1)
    with caplog.at_level(logging.INFO, logger="animeflow"):
        decide.run(words, logs=[str(other.file)], reviewer="ana")
    assert "1 new of 1" in caplog.text and "disputed" in caplog.text and "origin 1" in caplog.text
    decide.run(words, undo=log.history(sha(1))[0].seq, reviewer="ana")
    log.refresh()
    assert log.state(sha(1)).review == "keep"
    with pytest.raises(ConfigError, match="both"):
        decide.run(words, reject=[sha(1)], keep=[sha(1)], reviewer="ana")
