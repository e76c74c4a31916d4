"""Hostile files through every door that reads files of strangers: python scripts/fuzz.py --cases 12000 --seed 0 --workers 2

Pictures go through the check of `catalogue`, archives through `unpack`, JSON, lines, CSV and sidecars through every source and on
into a catalogue, lists of tags through `tags build`. Cases are made by number from a seed: --replay N repeats one and shows its
error, --keep FOLDER leaves its files there. Exit code 1 where a case crashed, hung, took too much memory, or wrote elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fuzz"))

from hostile.cases import SHARES, make
from hostile.crew import Answer, Rules, lay_out, run

COLUMNS = ("cases", "taken", "refused", "error", "findings", "MB", "median ms", "slowest ms", "peak MiB")


def main() -> int:
    options = _options()
    rules = Rules(seconds=options.seconds, memory_mib=options.memory)
    if options.replay is not None:
        return _replay(options, rules)
    answers: list[Answer] = []
    start = told = time.monotonic()
    numbers = range(options.first, options.first + options.cases)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=options.folder, ignore_cleanup_errors=True) as folder:
        for answer in run(numbers, seed=options.seed, workers=options.workers, rules=rules, folder=Path(folder)):
            answers.append(answer)
            if answer.is_finding:
                print(f"FINDING {_line(answer)}", flush=True)
            if time.monotonic() - told > 15:
                told = time.monotonic()
                rate = len(answers) / (told - start)
                print(f"{len(answers):,} of {options.cases:,} cases, {rate:.1f} a second", file=sys.stderr, flush=True)
    seconds = time.monotonic() - start
    print("\n".join(table(answers)))
    findings = [answer for answer in answers if answer.is_finding]
    print(
        f"{len(answers):,} cases of seed {options.seed} in {seconds:.0f} s with {options.workers} workers: {len(findings)} findings"
    )
    if options.json:
        _write(Path(options.json), options, answers, seconds)
    return 1 if findings else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=12_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=Rules.seconds, help="of a processor for one case; more is a hang"
    )
    parser.add_argument("--memory", type=int, default=Rules.memory_mib, help="MiB that one case may take")
    parser.add_argument("--folder", help="where to work (default: the system's folder for temporary files)")
    parser.add_argument("--json", help="write everything that was found into this file")
    parser.add_argument("--replay", type=int, metavar="N", help="one case again, with its error")
    parser.add_argument("--keep", metavar="FOLDER", help="with --replay: leave the files of the case here")
    return parser.parse_args()


def table(answers: list[Answer]) -> list[str]:
    """A row per format, as Markdown."""
    rows = defaultdict(list)
    for answer in answers:
        rows[answer.format].append(answer)
    found = ["| format | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name in [name for name in SHARES if name in rows]:
        found.append(f"| {name} | " + " | ".join(_cells(rows[name])) + " |")
    found.append("| **all** | " + " | ".join(_cells(answers)) + " |")
    return found


def _cells(answers: list[Answer]) -> list[str]:
    if not answers:
        return ["0"] * len(COLUMNS)
    count, times = Counter(answer.what for answer in answers), sorted(answer.seconds for answer in answers)
    findings = sum(answer.is_finding for answer in answers)
    size = sum(answer.bytes for answer in answers) / 1e6
    numbers = (len(answers), count["taken"], count["refused"], count["error"], findings)
    return [
        *(f"{number:,}" for number in numbers), f"{size:,.1f}", f"{1000 * times[len(times) // 2]:.0f}", f"{1000 * times[-1]:,.0f}",
        f"{max(answer.peak for answer in answers):,}",
    ]  # fmt: skip


def _replay(options: argparse.Namespace, rules: Rules) -> int:
    case = make(options.seed, options.replay)
    if options.keep:
        lay_out(case, Path(options.keep))
        print(f"{len(case.files)} files in {options.keep}, for {case.door} {case.options or ''}")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=options.folder, ignore_cleanup_errors=True) as folder:
        numbers = range(options.replay, options.replay + 1)
        answer = next(iter(run(numbers, seed=options.seed, workers=1, rules=rules, folder=Path(folder))))
    print(answer.trace + _line(answer))
    return 1 if answer.is_finding else 0


def _line(answer: Answer) -> str:
    what = f"{answer.what} {answer.detail} ({answer.seconds:.2f} s, {answer.peak} MiB)"
    return f"case {answer.number} {answer.format} {answer.door}: {what}"


def _write(path: Path, options: argparse.Namespace, answers: list[Answer], seconds: float) -> None:
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for answer in answers:
        reasons[answer.format][f"{answer.what} {answer.detail}" if not answer.is_finding else answer.what] += 1
    about: dict[str, Any] = {
        "cases": len(answers), "seed": options.seed, "workers": options.workers, "seconds": round(seconds, 1),
        "versions": versions(),
        "outcomes": {name: dict(count.most_common()) for name, count in reasons.items()},
        "findings": [asdict(answer) for answer in answers if answer.is_finding],
        "slowest": [asdict(answer) for answer in sorted(answers, key=lambda each: -each.seconds)[:10]],
        "largest": [asdict(answer) for answer in sorted(answers, key=lambda each: -each.peak)[:10]],
    }  # fmt: skip
    path.write_text(json.dumps(about, indent=1, ensure_ascii=True) + "\n")


def versions() -> dict[str, str]:
    import cv2
    import numpy
    import PIL
    import pyarrow

    packages = {"pillow": PIL, "opencv": cv2, "numpy": numpy, "pyarrow": pyarrow}
    return {"python": platform.python_version()} | {name: package.__version__ for name, package in packages.items()}


if __name__ == "__main__":
    sys.exit(main())
