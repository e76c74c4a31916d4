"""The panel says what is known, keeps its height, gives the terminal back, and never ends a run."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pty
import re
import select
import signal
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from animeflow.train import board
from animeflow.train.panel import Panel

LINE = {
    "train/loss": 0.4821,
    "train/loss_ema": 0.4903,
    **{f"train/loss_bin_{i}": 0.9 - 0.05 * i for i in range(10)},
    "train/grad_norm": 0.61,
    "optim/lr": 1e-4,
    "time/images_per_second": 10.0,
    "time/data_wait_share": 0.002,
    "time/mfu": 0.451,
    "memory/peak_gib": 61.34,
}
SIZES = [(110, 40), (80, 24), (60, 18), (40, 12), (12, 6)]


def panel_of(width: int, height: int, **options: object) -> Panel:
    console = Console(width=width, height=height, force_terminal=True, file=io.StringIO())
    defaults = {"total_images": 36_000 * 4, "title": "a run", "price_per_hour": (2.0, 3.0), "devices": 8}
    return Panel(**{**defaults, **options}, console=console)  # type: ignore[arg-type]


def drawn(panel: Panel) -> list[str]:
    console = Console(width=panel._console.width, height=panel._console.height, file=io.StringIO(), record=True)
    console.print(panel._draw())
    return console.export_text().splitlines()


def test_the_facts_are_there() -> None:
    panel = panel_of(110, 40)
    panel.advance(36_000)
    panel.facts.seconds = 3600.0
    panel.show(LINE)
    panel.due(checkpoint=40_000, samples=50_000)
    text = "\n".join(drawn(panel))
    for fact in (
        *("a run", "36,000 of 144,000 images", "25.0 %", "10 images/s", "MFU 45.1 %", "0.2 % of the time", "0.4821"),
        *("average 0.4903", "gradient   0.61", "rate 0.0001", "61.3 GiB", "1 h 0 min so far", "3 h 0 min to go"),
        *("$16-24 so far", "$48-72 to come", "checkpoint at 40,000   samples at 50,000", "t 0.9-1.0", "0.4500"),
    ):
        assert fact in text, f"{fact!r} is not in\n{text}"


def test_what_is_not_known_is_left_out() -> None:
    panel = panel_of(110, 40, price_per_hour=None)
    panel.show({"train/loss": math.nan})
    text = "\n".join(drawn(panel))
    assert "MFU" not in text
    assert "$" not in text
    assert "to go" not in text


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_height_never_changes_and_no_line_is_too_wide(width: int, height: int) -> None:
    panel = panel_of(width, height)
    panel.live = object()  # type: ignore[assignment]  # as if it were on a terminal
    seen = [drawn(panel)]
    panel.show(LINE)
    seen.append(drawn(panel))
    for i in range(30):
        panel.advance(1_000)
        panel.event(f"an event with many words that go on and on {i}\nand a second line")
        panel.show({**LINE, "train/loss_ema": math.inf if i == 7 else 1 / (i + 1)})
    panel.due(checkpoint=1_000_000, samples=2_000_000)
    panel.facts.keys = True
    seen.append(drawn(panel))
    assert {len(lines) for lines in seen} == {len(seen[0])}
    assert all(len(line) <= width for lines in seen for line in lines)
    assert not any("cannot be drawn" in line for lines in seen for line in lines)
    if height >= 12:
        assert len(seen[0]) <= height - 1 or height == 12
        assert any("and on 29" in line or "…" in line for line in seen[-1])


def test_a_sparkline_spans_its_values_and_marks_what_is_no_number() -> None:
    assert board.sparkline([0.0, 3.5, 7.0], width=10) == "▁▅█"
    assert board.sparkline([1.0, math.nan, 2.0], width=10) == "▁x█"
    assert board.sparkline([5.0, 5.0], width=10) == "▁▁"
    assert board.sparkline([float(i) for i in range(800)], width=8) == board.BLOCKS


def test_time_to_go_has_the_samples_in_it(monkeypatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(board.time, "monotonic", lambda: clock[0])
    panel = panel_of(110, 40, total_images=10_000)
    for _ in range(4):  # 100 images at 10 per second, then as long for samples
        clock[0] += 20.0
        panel.advance(100)
        panel.show(LINE)
    assert panel.facts.left == pytest.approx((10_000 - 400) / 5.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (61, "1 min 1 s"), (3_599.7, "1 h 0 min"), (200_000, "2 d 7 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert board.duration(seconds) == text


def test_without_a_terminal_it_is_one_line_with_the_same_facts(caplog, capsys) -> None:
    with caplog.at_level("INFO", logger="animeflow"), Panel(total_images=1_000, title="a run") as panel:
        assert panel.mode == "lines"
        panel.advance(250)
        panel.show(LINE)
        panel.event("checkpoint of 250 images saved")
        assert panel.wishes() == set()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    for fact in ("250 of 1,000 images (25.0 %)", "10 images/s, MFU 45.1 %", "1 min 15 s to go", "loss by t 0.9 0.85"):
        assert fact in said[0]
    assert said[1] == "checkpoint of 250 images saved"
    assert "\x1b" not in capsys.readouterr().err


def test_off_says_nothing_and_only_one_rank_speaks(caplog, monkeypatch) -> None:
    with caplog.at_level("INFO", logger="animeflow"):
        with Panel(total_images=10, mode="off") as panel:
            panel.show(LINE)
            panel.event("nothing")
        monkeypatch.setenv("RANK", "1")
        with Panel(total_images=10, mode="lines") as panel:
            panel.show(LINE)
    assert not caplog.records


# -- on a real (pseudo) terminal ---------------------------------------------------------------------------------------

PROGRAM = """
import json, logging, os, signal, sys, time
from pathlib import Path
from animeflow.core import log
from animeflow.train.panel import Panel

out, how = Path(sys.argv[1]), sys.argv[2]
if how == "gone":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
log.setup()
foreign = logging.getLogger("somebody.else")
foreign.addHandler(logging.StreamHandler())
wishes = []
try:
    with Panel(total_images=100_000, title="a run") as panel:
        (out / "ready").write_text("")
        for step in range(60):
            time.sleep(0.05)
            panel.advance(8)
            panel.show({"train/loss": 0.5})
            wishes += sorted(panel.wishes())
            if step == 30:
                logging.getLogger("animeflow.x").info("a line of the log")
                foreign.warning("a line of somebody else")
                logging.getLogger("animeflow.x").warning("a warning of the package")
                if how != "gone":
                    print("a printed line")
                with log.progress("inner", 4) as advance:
                    for _ in range(4):
                        advance(1)
                if how == "raises":
                    raise RuntimeError("the loop failed")
                if how == "interrupted":
                    os.kill(os.getpid(), signal.SIGINT)
except BaseException as error:
    wishes.append(type(error).__name__)
(out / "wishes.json").write_text(json.dumps(wishes))
"""


class Terminal:
    """A program on a pseudo terminal of its own, and what it wrote there."""

    def __init__(self, folder: Path, how: str) -> None:
        program = folder / "program.py"
        program.write_text(textwrap.dedent(PROGRAM))
        self.folder, self.text = folder, ""
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
        environment.pop("NO_COLOR", None)
        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, str(program), str(folder), how], environment)
        self.before = termios.tcgetattr(self.handle)

    def read(self, until: str | None = None, *, seconds: float = 180.0) -> None:
        """Until the file `until` is there, or the program has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (until and (self.folder / until).exists()):
            if select.select([self.handle], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self.handle, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    return


@pytest.fixture
def terminal(tmp_path: Path, request) -> Iterator[Terminal]:
    started = Terminal(tmp_path, request.param)
    yield started
    with contextlib.suppress(ProcessLookupError):
        os.kill(started.pid, signal.SIGKILL)
    os.waitpid(started.pid, 0)


def lines_of(text: str) -> list[str]:
    """What was written, as lines without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()


@pytest.mark.parametrize("terminal", ["ends", "raises", "interrupted"], indirect=True)
def test_keys_are_heard_logs_do_not_tear_and_the_terminal_comes_back(terminal: Terminal) -> None:
    terminal.read("ready")
    os.write(terminal.handle, b"sxC")
    terminal.read("wishes.json")
    during = termios.tcgetattr(terminal.handle)
    terminal.read()  # to the end
    wishes = json.loads((terminal.folder / "wishes.json").read_text())
    assert wishes[:2] == ["c", "s"], "x is no wish, and capital letters are"
    assert during == terminal.before, "the terminal has not got its settings back"
    assert terminal.text.rfind("\x1b[?25h") > terminal.text.rfind("\x1b[?25l") >= 0, "the cursor is not shown again"
    lines = lines_of(terminal.text)
    for line in (
        "a line of the log",
        "a line of somebody else",
        "a warning of the package",
        "a printed line",
        "inner: 4 of 4",
    ):
        found = [each for each in lines if line in each and "│" not in each]
        assert found, f"{line!r} is not above the panel"
    assert any("a warning of the package" in each for each in lines if "│" in each), "it is no event of the panel"
    assert any("asked for: samples" in each for each in lines)


@pytest.mark.parametrize("terminal", ["gone"], indirect=True)
def test_a_terminal_that_goes_away_does_not_end_the_run(terminal: Terminal) -> None:
    terminal.read("ready")
    os.close(terminal.handle)
    end = time.monotonic() + 180
    while not (terminal.folder / "wishes.json").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert json.loads((terminal.folder / "wishes.json").read_text()) == []
