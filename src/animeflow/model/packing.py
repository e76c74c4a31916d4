"""Token rows in groups of one length, there and back without waiting. Knows tensors and devices; knows no encoder.

Rows of one length need no padding, and so a row costs what it is long. The host waits for a device only to hand out what it gave,
and later than it asked: while it looks at one group, the device works on the next.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

Take = Callable[[Tensor], None]


def groups(lengths: Sequence[int], *, most: int, step: int = 1) -> list[list[int]]:
    """Places of rows in groups of one length, each of at most `most` rows. The longest come first: what they needed of a device's
    memory serves the shorter ones. Within a length the order is that of `lengths`. With a `step`, lengths that round up to the same
    multiple of it are one."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for place, length in enumerate(lengths):
        by_length[-(-length // step)].append(place)
    return [
        places[start : start + most]
        for _, places in sorted(by_length.items(), reverse=True)
        for start in range(0, len(places), most)
    ]


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`. A plain copy would wait until the device has done all that it was asked before."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Returning:
    """Features on their way back to the CPU, rounded to `dtype` where they were made. As a context; all have arrived at its end.

    Args:
        most: groups that may be under way; an older one is waited for, which bounds the memory.
    """

    def __init__(self, dtype: torch.dtype, *, most: int = 2) -> None:
        self._dtype, self._most = dtype, most
        self._under_way: deque[tuple[Tensor, Any, Take]] = deque()

    def add(self, features: Tensor, take: Take) -> None:
        """Calls `take` with the features on the CPU when they are there: at once when they already are. Only for its call may
        `take` hold what it gets."""
        rounded = features.to(self._dtype)
        if rounded.device.type != "cuda":
            take(rounded.cpu())
            return
        here = torch.empty(rounded.shape, dtype=self._dtype, pin_memory=True)
        here.copy_(rounded, non_blocking=True)
        done = torch.cuda.Event(blocking=True)  # one that sleeps: the core is wanted by those who read pictures
        done.record(torch.cuda.current_stream(rounded.device))
        self._under_way.append((here, done, take))
        self._hand_out(self._most)

    def __enter__(self) -> Returning:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._hand_out(0)

    def _hand_out(self, left: int) -> None:
        while len(self._under_way) > left:
            here, done, take = self._under_way.popleft()
            done.synchronize()
            take(here)
