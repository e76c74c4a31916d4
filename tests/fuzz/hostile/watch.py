"""What a process did besides giving an answer: files touched, programs and sockets opened, memory taken. Knows the system."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

ESCAPED = (Path("/animeflow-fuzz-escaped.png"), Path("/escaped.png"))
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "socket.getaddrinfo",
    "pickle.find_class",
    "ctypes.dlopen", "webbrowser.open",
)  # fmt: skip
BELOW = {
    "os.mkdir": 2,
    "os.remove": 1,
    "os.rmdir": 1,
}  # which argument is the open folder that the path is below, or -1
CHANGES = {  # events of the interpreter, and which of their arguments are paths that change
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.link": (0, 1), "os.symlink": (1,),
    "os.chmod": (0,),
    "os.chown": (0,), "os.truncate": (0,), "os.utime": (0,), "shutil.rmtree": (0,), "shutil.move": (0, 1),
}  # fmt: skip


class Watch:
    """What a case may not do, told by the interpreter's own audit events. They stay for good, so a process makes one watch.

    `root` is the folder that may be written while a case is in work.
    """

    def __init__(self) -> None:
        self.root: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.root is None:
            return
        if event in FORBIDDEN:
            self.seen.append(f"{event} {arguments!r:.100}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
            self._check(event, arguments[0])
        elif event in CHANGES:
            below = arguments[BELOW[event]] if event in BELOW else -1
            for place in CHANGES[event]:
                self._check(event, arguments[place], below)

    def _check(self, event: str, path: Any, below: int = -1) -> None:
        if not isinstance(path, str | bytes | os.PathLike) or self.root is None:
            return  # an open file
        folder = os.readlink(f"/proc/self/fd/{below}") if below >= 0 and sys.platform == "linux" else ""
        place = os.path.realpath(os.path.join(folder, os.fsdecode(path)))
        if place != self.root and not place.startswith(self.root + os.sep) and place != os.devnull:
            self.seen.append(f"{event} {place}")


def snapshot(folder: Path, *, without: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and folder below `folder`, with what changes when it is touched."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(place, name) != without)
        for name in (*folders, *names):
            stat = os.lstat(os.path.join(place, name))
            found[os.path.join(place, name)] = (
                stat.st_size if name in names else 0,
                stat.st_mtime_ns if name in names else 0,
                stat.st_mode,
            )
    found |= {str(path): (0, 0, 0) for path in ESCAPED if path.exists()}
    return found


def forget_peak() -> bool:
    """Begin to measure anew; False where the system cannot, and the highest of all cases counts."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_mib() -> int:
    """The most memory that this process held, since `forget_peak` where there is /proc."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def limit_address_space(gib: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (gib << 30, gib << 30))
