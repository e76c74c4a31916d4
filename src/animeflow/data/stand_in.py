"""Another picture in the place of one that cannot be read, so that a run outlives a few broken entries. Knows the assembler.

Which one is a function of the unreadable picture alone: every process, and every run that is resumed, takes the same. What was
replaced is counted and listed, and above a share of the set the run stops.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from ..core import seed as keyed
from ..core.batch import Batch
from ..core.errors import DataError
from ..model.protocol import TextTower
from .assemble import Assembler
from .index import CacheIndex, bearable
from .manifest import key
from .place import OutOfReach

log = logging.getLogger(__name__)

_TRIES = 32


class Substituting:
    """An assembler that replaces what cannot be read by a picture of the same bucket and split.

    A store that is out of reach is no broken picture: it stops the run as it does without this.

    Args:
        assemble: makes the batches.
        listed: `broken.jsonl` of the run; lines of an earlier part of the run are read again, so they count. None keeps no list.
    """

    def __init__(self, assemble: Assembler, *, listed: Path | None = None) -> None:
        self.assemble, self.listed = assemble, listed
        self.index: CacheIndex = assemble.index
        self.tower: TextTower = assemble.tower
        self._lock = threading.Lock()
        self._broken: set[str] = set()
        self._buckets: dict[str, dict[str, list[int]]] = {}

    @property
    def broken(self) -> int:
        """Pictures that were found broken so far, by every process that writes to the same list."""
        with self._lock:
            self._reread()
            return len(self._broken)

    def batch(
        self, uids: Sequence[int], visits: Sequence[int], *, global_count: int, pool: Executor | None = None
    ) -> Batch:
        """As `Assembler.batch`. The batch names the pictures that it holds, so a ledger counts what was seen.

        Raises:
            DataError: more is broken than a run puts up with, or nothing readable was found for a place.
            OutOfReach: the store does not answer.
        """
        try:
            return self.assemble.batch(uids, visits, global_count=global_count, pool=pool)
        except OutOfReach:
            raise
        except DataError as error:
            chosen = [self._readable(uid, visit) for uid, visit in zip(uids, visits, strict=True)]
            if chosen == list(uids):  # each can be read: something else is wrong
                raise error
        return self.assemble.batch(chosen, visits, global_count=global_count, pool=pool)

    def fetch(self, uids: Sequence[int], visits: Sequence[int]) -> None:
        """Start reading what a later batch will want, where it lies elsewhere."""
        images = [] if self.assemble.live else zip(uids, visits, strict=True)
        self.index.fetch(uids, [row for image in images for row in self.assemble.text_addresses(*image)])

    def stand_in(self, uid: int, number: int = 0) -> int:
        """The first (second, ...) choice for the place of a picture."""
        split = self.index.split_of(uid)
        if split not in self._buckets:
            self._buckets[split] = self.index.buckets(split)
        others = self._buckets[split][self.index.bucket_of(uid)]
        return others[keyed.key("stand_in", uid, number) % len(others)]

    def _readable(self, uid: int, visit: int) -> int:
        """`uid`, or who stands in for it."""
        fault = self._fault(uid, visit)
        if fault is None:
            return uid
        for number in range(_TRIES):
            other = self.stand_in(uid, number)
            if other != uid and self._fault(other, visit) is None:
                self._note(uid, fault, other)
                return other
        raise DataError(
            f"picture {key(uid)} cannot be read, nor {_TRIES} others of its bucket: {fault.what}", where=fault.where,
            do="run 'cache' again: only what is broken is encoded anew",
        ) from fault  # fmt: skip

    def _fault(self, uid: int, visit: int) -> DataError | None:
        """Why a picture cannot be read at a visit."""
        try:
            self.index.latents.get(self.index.latent_address(uid))
            if self.assemble.live:
                self.assemble.caption(uid, visit)
            else:
                for address in self.assemble.text_addresses(uid, visit):
                    self.index.texts.get(address)
            if self.index.masks is not None and (mask := self.index.mask_address(uid)):
                self.index.masks.get(mask)
        except OutOfReach:
            raise
        except DataError as error:
            return error
        return None

    # -- the list ------------------------------------------------------------------------------------------------------

    def _note(self, uid: int, fault: DataError, other: int) -> None:
        with self._lock:
            self._reread()
            if key(uid) not in self._broken:
                self._broken.add(key(uid))
                self._write({"uid": key(uid), "file": fault.where, "reason": fault.what, "replaced_by": key(other)})
                log.warning(
                    "picture %s cannot be read, %s stands in: %s (%s)", key(uid), key(other), fault.what, fault.where
                )
            count, limit = len(self._broken), bearable(len(self.index))
        if count > limit:
            raise DataError(
                f"{count} of {len(self.index)} pictures cannot be read, the last: {fault.what}", where=fault.where,
                why=f"more than {limit} are no accident any more", do=f"repair the set and delete the list, {self.listed}",
            ) from fault  # fmt: skip

    def _reread(self) -> None:
        if self.listed and self.listed.is_file():
            for line in self.listed.read_text().splitlines():
                try:
                    self._broken.add(json.loads(line)["uid"])
                except (ValueError, KeyError, TypeError):
                    continue  # a line that a killed process did not finish

    def _write(self, line: dict[str, str | None]) -> None:
        """One line in one write, so that processes that share the list do not mix theirs."""
        if not self.listed:
            return
        try:
            self.listed.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.listed, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, (json.dumps(line, ensure_ascii=False) + "\n").encode())
            finally:
                os.close(handle)
        except OSError as error:
            log.warning("the list of broken pictures cannot be written: %s", error)
