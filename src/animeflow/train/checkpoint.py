"""Saves and restores a resumable state, whole or absent, bit for bit. Knows tensors and JSON; knows no model. Never an export.

Every process copies its part of the state to host memory; then, in a thread if asked, all of them write into one hidden folder,
which process 0 seals with the hashes of all files and renames. No process goes on before all have said that they succeeded, so
that a failure on one is a failure on all, and none waits for one that gave up.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import AnimeflowError, DataError
from . import sharded, stored
from .optimizer_state import blank_optimizer, flatten_optimizer, unflatten_optimizer
from .peers import Peers
from .staging import Groups, Snapshot, Staging
from .stored import list_folders, load, load_state, newest, verify

__all__ = [
    "Checkpoints", "SaveFailed", "blank_optimizer", "flatten_optimizer", "list_folders", "load", "load_state", "newest",
    "save", "unflatten_optimizer", "verify",
]  # fmt: skip

log = logging.getLogger(__name__)

ROOM = 1.1  # of the bytes to write must be free: headers, state and manifest come on top


class SaveFailed(AnimeflowError):
    """A checkpoint could not be written, and those before it are as they were. Training can go on and try again later."""


@dataclass(frozen=True)
class _Job:
    """One checkpoint to write: a copy that training does not reach any more."""

    images: int
    snapshot: Snapshot
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, below `root`. Build it, and call every method, on all processes alike and from one thread.

    Args:
        keep_last: how many of the newest stay on disk; None keeps all.
        keep_every_images: besides them, the first checkpoint at or after every multiple stays for good; 0 keeps none.
        asynchronous: `save` returns when the state is copied to host memory, and a thread writes it.
        on_saved: called on process 0, in that thread, with every checkpoint that is whole on disk; its errors are logged.
        peers: the processes that write together; those of torch.distributed unless given.
    """

    def __init__(
        self,
        root: Path,
        *,
        keep_last: int | None,
        keep_every_images: int = 0,
        asynchronous: bool = False,
        on_saved: Callable[[Path], None] | None = None,
        peers: Peers | None = None,
    ) -> None:
        self.root, self.asynchronous, self.on_saved = root, asynchronous, on_saved
        self.keep_last, self.keep_every_images = keep_last, keep_every_images
        self.peers = peers or Peers()
        self._staging = Staging()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, images: int, tensors: Groups, state: Mapping[str, Any]) -> Path:
        """Write `root/<images>/`, or begin to; returns where it is going to be, and the tensors may change. A plain tensor must be
        the same on all processes; `state` is JSON, and that of process 0 is written.

        Waits for the save before. Raises SaveFailed on all processes when the disk is full or gone; an asynchronous save does so at
        the next `wait` or `save`, and the latter has begun by then: who catches it loses no occasion."""
        late = self._settle()
        if late is not None and not isinstance(late, SaveFailed):
            raise late
        folder = self.root / f"{images:012d}"

        def stage() -> _Job:
            snapshot = self._staging.take(tensors, rank=self.peers.rank, world=self.peers.world)
            return _Job(images, snapshot, json.loads(json.dumps(dict(state))))

        job = self._staged(folder, stage)
        if self.asynchronous:
            # No daemon: a program that ends while this writes waits for it.
            self._thread = threading.Thread(target=self._try, args=(folder, job), name="checkpoint")
            self._thread.start()
        else:
            self._try(folder, job)
            self._staging.clear()
            late = self._settle() or late
        if late is not None:
            raise late
        return folder

    def wait(self) -> None:
        """Return when all is on disk. Raises the error of the last save if it failed, once, and on all processes."""
        error = self._settle()
        if error is not None:
            raise error

    def _settle(self) -> BaseException | None:
        self.join()
        error, self._error = self._error, None
        return error

    def join(self) -> None:
        """Return when this process writes nothing, whether what it wrote is whole or not; asks no other process."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Wait, and leave the group of processes. Nothing can be saved after."""
        try:
            self.wait()
        finally:
            self._staging.clear()
            self.peers.close()

    def _staged(self, folder: Path, stage: Callable[[], _Job]) -> _Job:
        jobs: list[_Job] = []

        def told() -> str:
            jobs.append(stage())
            return jobs[0].snapshot.digest

        if len(set(self._together(folder, told))) > 1:
            raise RuntimeError("the processes do not save the same tensors: names, shapes or types differ")
        return jobs[0]

    def _try(self, folder: Path, job: _Job) -> None:
        try:
            self._write(folder, job)
        except BaseException as error:  # whatever it is, it is raised where somebody looks
            self._error = error

    def _write(self, folder: Path, job: _Job) -> None:
        leads = self.peers.rank == 0

        def begin() -> str:
            if not leads:
                return ""
            self._require_room(folder, job.snapshot.whole_bytes)
            files.sweep(self.root)
            return stack.enter_context(files.atomic_folder(folder)).name

        def write() -> dict[str, Any]:
            return {path.name: stored.facts_of(path) for path in sharded.write(temporary, job.snapshot)}

        def commit() -> None:
            if leads:
                _finish(temporary, job, written)
                stack.close()  # the rename

        with contextlib.ExitStack() as stack:
            temporary = self.root / self._together(folder, begin)[0]
            written = self._together(folder, write)
            self._together(folder, commit)
        if leads:
            self._after(folder)

    def _together(self, folder: Path, step: Callable[[], Any]) -> list[Any]:
        def named() -> Any:
            with _failures_named(folder):
                return step()

        return self.peers.together(named, failure=SaveFailed)

    def _require_room(self, folder: Path, size: int) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(self.root).free, int(ROOM * size)
        if free < needed:
            raise SaveFailed(
                f"no room for a checkpoint: it needs {needed:,} bytes and {free:,} are free",
                where=str(folder),
                why="the checkpoints before it are whole, but what is trained since then is on no disk",
                do="make room; the next save tries again",
            )

    def _after(self, folder: Path) -> None:
        """What follows a checkpoint that is safe: nothing here can make it fail any more."""
        try:
            stored.retire(
                self.root, just_written=folder, keep_last=self.keep_last, keep_every_images=self.keep_every_images
            )
        except OSError as error:
            log.warning("old checkpoints in %s could not be deleted: %s", self.root, error)
        if self.on_saved is not None:
            try:
                self.on_saved(folder)
            except Exception:
                log.exception("checkpoint %s is whole, but what was to follow it failed", folder)

    # -- reading -------------------------------------------------------------------------------------------------------

    def resume_from(self, *, before: int | None = None) -> Path | None:
        """The newest checkpoint that verifies (with `before`: of fewer images than that), the same on all processes: process 0
        looks, the others believe it. Broken ones are named in the log and passed over."""
        self.join()

        def look() -> str | None:
            found = newest(self.root, before=before) if self.peers.rank == 0 else None
            return None if found is None else found.name

        name = self.peers.together(look)[0]
        return None if name is None else self.root / name

    def restore(self, folder: Path, tensors: Groups) -> None:
        """Fill the tensors in place with what a checkpoint holds, each process its parts, whatever number of processes wrote it.
        Groups that are not in `tensors` are left out. Raises DataError on all processes when names, shapes or types differ."""
        self.join()
        self.peers.together(lambda: sharded.read_into(folder, tensors), failure=DataError)


def save(root: Path, images: int, tensors: Groups, state: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Write one checkpoint from this process alone, whole tensors, and keep the newest `keep`."""
    return Checkpoints(root, keep_last=keep, peers=Peers(alone=True)).save(images, tensors, state)


def _finish(temporary: Path, job: _Job, written: list[dict[str, Any]]) -> None:
    """Seal what all processes wrote, after a look at whether it is all here."""
    facts_by_name = {name: facts for facts_by_name in written for name, facts in facts_by_name.items()}
    for name, facts in facts_by_name.items():
        if not (temporary / name).is_file() or (temporary / name).stat().st_size != facts["bytes"]:
            raise SaveFailed(
                f"{name}, which another process wrote, is not here",
                where=str(temporary),
                why="all processes write into one folder",
                do="put the run's folder on a file system that all machines share",
            )
    sharded.require_whole(temporary, job.snapshot)
    files.write_json(temporary / stored.STATE, job.state)
    facts_by_name[stored.STATE] = stored.facts_of(temporary / stored.STATE)
    stored.seal(temporary, images=job.images, processes=len(written), groups=job.snapshot.groups, written=facts_by_name)


@contextlib.contextmanager
def _failures_named(folder: Path) -> Iterator[None]:
    """What disk or memory refuse, as SaveFailed."""
    try:
        yield
    except (OSError, MemoryError) as error:
        raise SaveFailed(
            f"the checkpoint could not be written: {error or type(error).__name__}",
            where=str(folder),
            why="the checkpoints before it are whole, but what is trained since then is on no disk",
            do="make room, or put the folder right; the next save tries again",
        ) from error
    except DataError as error:
        raise SaveFailed(error.what, where=error.where, do="look at the disk; the next save tries again") from error
