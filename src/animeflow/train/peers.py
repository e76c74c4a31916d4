"""The processes of one run, as far as they must agree about small facts. Knows JSON over a gloo group; knows no weights.

Every call is collective: all processes make it, in the same order, from one thread at a time. Nothing is pickled on the way,
which torch's own collectives of objects would do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..core.errors import AnimeflowError


class Peers:
    """This process and the others, over a group of their own. Build it on all of them at the same point of the program.

    Args:
        alone: there are no others, whatever torch.distributed says.
        timeout_seconds: how long the slowest may keep the others waiting.
    """

    def __init__(self, *, alone: bool = False, timeout_seconds: float = 1800.0) -> None:
        self.rank, self.world = 0, 1
        self._group: dist.ProcessGroup | None = None
        if not alone and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.rank, self.world = dist.get_rank(), dist.get_world_size()
            # gloo whatever the run trains over: it takes tensors in host memory, and no GPU stream waits for it.
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))

    def gather(self, value: Any) -> list[Any]:
        """What every process said, by rank. `value` is anything that JSON can say."""
        if self._group is None:
            return [json.loads(json.dumps(value))]
        mine = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros((), dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(lengths, torch.tensor(len(mine)), group=self._group)
        room = int(max(lengths))
        texts: list[Tensor] = [torch.zeros(room, dtype=torch.uint8) for _ in range(self.world)]
        dist.all_gather(texts, torch.cat([mine, mine.new_zeros(room - len(mine))]), group=self._group)
        return [json.loads(bytes(text[:length].numpy())) for text, length in zip(texts, map(int, lengths))]

    def together(self, step: Callable[[], Any], *, failure: type[AnimeflowError] = AnimeflowError) -> list[Any]:
        """Do `step` on every process and return what each said. When it fails on one, it fails on all: there with its own error,
        elsewhere with `failure` if that was an error for a person, and with RuntimeError if it was a bug."""
        value, error = None, None
        try:
            value = step()
        except BaseException as raised:  # also what is no Exception: the others wait for our answer
            error = raised
        answers = self.gather({"value": value, "error": None if error is None else _tell(error)})
        if error is not None:
            raise error
        for rank, answer in enumerate(answers):
            if (told := answer["error"]) is not None:
                if told.pop("bug"):
                    raise RuntimeError(f"process {rank} failed: {told['what']}")
                raise failure(f"process {rank}: {told.pop('what')}", **told)
        return [answer["value"] for answer in answers]

    def close(self) -> None:
        """Leave the group. Nothing can be agreed after."""
        if self._group is not None and dist.is_initialized():
            dist.destroy_process_group(self._group)
        self._group = None


def _tell(error: BaseException) -> dict[str, Any]:
    if isinstance(error, AnimeflowError):
        return {"bug": False, "what": error.what, "where": error.where, "why": error.why, "do": error.do}
    return {"bug": True, "what": f"{type(error).__name__}: {error}"}
