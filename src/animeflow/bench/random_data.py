"""Latents and text that say nothing, in the sizes of a run: what a step costs does not depend on what is in the picture.

Knows families by protocol; knows no file and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ..core import seed as keyed
from ..core.batch import Batch
from ..image.bucket import Bucket
from ..model.protocol import Family

MOST = 9  # sizes of a measurement: those of a plan with more of them are taken evenly


class RandomData:
    """The same pictures in every round, one optimizer step for each size; noise and timesteps are drawn anew, as in a run.

    Args:
        family: whose latents and text they are.
        sizes: one step each.
        images: of a step, in micro-batches of `micro_batch`.
        tokens: of every prompt.
        dtype: of text, which a cache holds in bf16.
        prepare: the recipe's own, which draws noise and timesteps; done here, before the clock runs.
        pin: in page-locked memory, as a loader leaves it.
        prior: with a second caption for each picture.
    """

    def __init__(
        self,
        family: Family,
        sizes: Sequence[Bucket],
        *,
        images: int,
        micro_batch: int,
        tokens: int,
        dtype: torch.dtype,
        prepare: Callable[[Batch], Batch],
        seed: int = 0,
        pin: bool = False,
        prior: bool = False,
    ) -> None:
        self.prior = prior
        self.sizes, self.images, self.seed, self.pin, self._prepare = tuple(sizes), images, seed, pin, prepare
        self._steps = [
            [
                self._batch(family, bucket, place, min(micro_batch, images - place), step, tokens, dtype)
                for place in range(0, images, micro_batch)
            ]
            for step, bucket in enumerate(self.sizes)
        ]

    def round(self, number: int) -> list[list[Batch]]:
        """The micro-batches of one step per size, with the draws of the `number`th visit."""
        return [[self._visited(batch, number) for batch in step] for step in self._steps]

    @property
    def padding_share(self) -> float | None:
        """Of the tokens of text; None where no mask tells."""
        masks = [t for batch in self._steps[0] for t in batch.conditioning.values() if t.dtype == torch.bool]
        real = sum(int(mask.sum()) for mask in masks)
        return 1 - real / sum(mask.numel() for mask in masks) if masks else None

    def _batch(
        self, family: Family, bucket: Bucket, place: int, count: int, step: int, tokens: int, dtype: torch.dtype
    ) -> Batch:
        size = {"height": bucket.height, "width": bucket.width, "tokens": tokens}
        latents, text = family.random_inputs(count, **size, seed=keyed.key(self.seed, step, place))
        batch = Batch(
            latents=latents,
            conditioning=text.to(dtype=dtype),
            uids=tuple(keyed.key(self.seed, "random picture", step, place + i) for i in range(count)),
            visits=(0,) * count,
            global_count=self.images,
            step=step,
            places=tuple(range(place, place + count)),
            prior=text.to(dtype=dtype) if self.prior else None,
        )
        return batch.pinned() if self.pin else batch

    def _visited(self, batch: Batch, number: int) -> Batch:
        step = batch.step + number * len(self.sizes)
        batch = self._prepare(replace(batch, visits=(number,) * len(batch), step=step, draws={}))
        if self.pin:
            return replace(batch, draws={name: tensor.pin_memory() for name, tensor in batch.draws.items()})
        return batch


def some_sizes(buckets: Sequence[Bucket], most: int = MOST) -> list[Bucket]:
    """At most so many, evenly from the tallest to the widest."""
    ordered = sorted(buckets, key=lambda bucket: (bucket.log_aspect, bucket.pixels))
    if len(ordered) <= most:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (most - 1))] for i in range(most)]
