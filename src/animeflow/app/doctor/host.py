"""The machine around torch: processors, memory, limits, clock, terminal. `judge_*` decide from facts; knows no GPU, no disk."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from .finding import Finding, count, error, ok, warning

DAY = 86_400.0


def cpus() -> float:
    """Processors that this process may use: its affinity, or a container's share."""
    usable = float(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        most, _, period = quota.read_text().partition(" ")
        if most.strip().isdecimal() and period.strip().isdecimal():
            usable = min(usable, int(most) / int(period))
    return usable


def judge_threads(usable: float, threads: int, *, said: str | None) -> list[Finding]:
    """Torch's threads beside the processors; `said` is OMP_NUM_THREADS."""
    what = f"{usable:g} processors, {count(threads, 'thread')} of torch" + (
        f" (OMP_NUM_THREADS={said})" if said else ""
    )
    if threads > max(1.0, usable):
        return [
            warning(
                "processors", what, do=f"export OMP_NUM_THREADS={max(1, int(usable))}",
                why="threads that share a processor wait for each other: a step takes many times longer",
            )
        ]  # fmt: skip
    return [ok("processors", what)]


def memory() -> tuple[float, float]:
    """`(total, available)` in GiB, of the container where it has a limit."""
    told = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, rest = line.partition(":")
        told[key] = int(rest.split()[0]) / 2**20
    total, available = told["MemTotal"], told.get("MemAvailable", told["MemTotal"])
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and (most := limit.read_text().strip()).isdecimal() and int(most) / 2**30 < total:
        total = int(most) / 2**30
        available = min(available, total - int(used.read_text()) / 2**30) if used.is_file() else available
    return total, available


def judge_memory(total: float, available: float) -> list[Finding]:
    """Memory of the host in GiB."""
    what = f"{total:.1f} GiB, {available:.1f} available"
    if available < 1.5:
        return [error("memory", what, why="not even the smallest run fits", do="close other programs")]
    if total < 12:
        return [
            warning("memory", what, do="animeflow demo and --tiny run here; larger runs need 16 GiB and more",
                    why="the weights of the released models pass through it")
        ]  # fmt: skip
    return [ok("memory", what)]


def judge_shared(total: float | None, *, gpus: int) -> list[Finding]:
    """/dev/shm in GiB: GPUs of one machine talk through it. None where the system has no such place."""
    if total is None:
        return []
    what = f"{total:.2f} GiB"
    if gpus > 1 and total < 1.0:
        return [
            warning("/dev/shm", what, do="start the container with --shm-size=16g or --ipc=host",
                    why=f"{gpus} GPUs exchange gradients through it")
        ]  # fmt: skip
    return [ok("/dev/shm", what)]


def judge_files(limit: int) -> list[Finding]:
    """How many files may be open."""
    if limit < 1024:
        return [
            warning("open files", f"{limit} at once", do="ulimit -n 4096", why="shards, cache and workers need more")
        ]
    return [ok("open files", f"{limit:,} at once" if limit < 2**60 else "no limit")]


def judge_clock(now: float, newest: float) -> list[Finding]:
    """Seconds since 1970 beside the time of the newest file of this package: it cannot lie in the future."""
    told = datetime.fromtimestamp(now, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now < newest - DAY:
        return [
            warning("clock", f"{told}, which is before this package was installed", do="set the clock",
                    why="times in records and cards would be wrong, and secure connections fail")
        ]  # fmt: skip
    return [ok("clock", told)]


def judge_terminal(environment: Mapping[str, str], *, terminal: bool, encoding: str) -> list[Finding]:
    """What lines and panels may use."""
    kind = "a terminal" if terminal else "no terminal: plain lines"
    colour = terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
    what = f"{kind}, {'colour' if colour else 'no colour'}, {encoding or 'unknown encoding'}"
    if terminal and "utf" not in encoding.lower():
        return [
            warning("terminal", what, do="export LANG=C.UTF-8 PYTHONUTF8=1", why="curves and tables are drawn in UTF-8")
        ]
    return [ok("terminal", what)]


def look() -> list[Finding]:
    """This machine."""
    import resource

    import torch

    newest = max(file.stat().st_mtime for file in Path(__file__).parent.glob("*.py"))
    shared = Path("/dev/shm")
    size = os.statvfs(shared) if shared.is_dir() else None
    room = size.f_blocks * size.f_frsize / 2**30 if size else None
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return [
        *judge_threads(cpus(), torch.get_num_threads(), said=os.environ.get("OMP_NUM_THREADS")),
        *judge_memory(*memory()),
        *judge_shared(room, gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0),
        *judge_files(files if files >= 0 else 2**63),
        *judge_clock(time.time(), newest),
        *judge_terminal(os.environ, terminal=sys.stdout.isatty(), encoding=sys.stdout.encoding or ""),
    ]
