"""Pictures and visits to a batch: latents, the caption of this visit, its dropouts. Knows cache and tower; knows no order of data.

Every draw is keyed by (seed, uid, visit, purpose), so a batch depends on what is in it and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..core import seed as keyed
from ..core.batch import Batch
from ..core.errors import ConfigError, DataError, did_you_mean
from ..model.protocol import TextRow, TextTower
from ..text.caption import CaptionPolicy, render
from . import rows8
from .fill import stacked
from .index import CacheIndex
from .live import LiveTexts
from .reader import ShardSet
from .texts import EMPTY, fitting

PRIOR = 1
"""Asks for the prior of a live caption in place of the caption."""


class Assembler:
    """Builds batches on the CPU, in the bfloat16 of the cache: who computes in another type converts on its device, and loses
    nothing by it, since bfloat16 to float32 is exact.

    Args:
        seed: of caption choice and dropout.
        caption_dropout: share of visits whose caption becomes the empty prompt, for all encoders together.
        encoder_dropout: encoder -> share of visits in which that encoder's part becomes the family's null, each on its own.
        texts: "cached" chooses one of the cached captions; "live" renders a new one for every visit and encodes it now.
        shards, policy: where live captions come from.
        prior: put beside every caption what it says to a model that knows no trigger, of the same variant or rendering, with the
            same dropouts.
        device: where the tower encodes live captions, beside what trains there; None leaves it where it is.
        pin: build batches in page-locked memory, for copies to a GPU that overlap with work.
    Raises:
        ConfigError: an option is impossible or does not fit the cache or the tower.
    """

    def __init__(
        self,
        index: CacheIndex,
        tower: TextTower,
        *,
        seed: int,
        caption_dropout: float = 0.0,
        encoder_dropout: Mapping[str, float] | None = None,
        texts: str = "cached",
        shards: ShardSet | None = None,
        policy: CaptionPolicy | None = None,
        prior: bool = False,
        device: torch.device | str | None = None,
        pin: bool = False,
    ) -> None:
        self.index, self.tower, self.seed, self.pin = index, tower, seed, pin
        self.caption_dropout, self.encoder_dropout = caption_dropout, dict(encoder_dropout or {})
        self.live, self.shards, self.policy, self.prior = texts == "live", shards, policy, prior
        self._fits = fitting(tower, policy.fit) if policy is not None else None
        _check(self, texts)
        self._live = LiveTexts(
            tower,
            lambda *image: self.caption(*image),
            text_dtype=index.manifest["identity"].get("text_dtype", "bf16"),
            device=device if self.live else None,
        )

    def batch(
        self, uids: Sequence[int], visits: Sequence[int], *, global_count: int, pool: Executor | None = None
    ) -> Batch:
        """One micro-batch of pictures of one bucket. `pool` reads entries side by side.

        Raises:
            DataError: an entry is missing or broken; its file is named.
        """
        walk: Callable[..., Iterator[Any]] = pool.map if pool else map
        addresses = [self.index.latent_address(uid) for uid in uids]
        images = list(zip(uids, visits, strict=True))
        self.index.fetch(uids, [] if self.live else [row for image in images for row in self.text_addresses(*image)])
        latents = stacked(self.index.latents, addresses, pin=self.pin, walk=walk)
        drop = [self.dropped_encoders(*image) for image in images]
        conditioning, *prior = (
            self.tower.collate(rows, drop=drop if any(drop) else None) for rows in self._rows(images, walk)
        )
        batch = Batch(latents, conditioning, tuple(uids), tuple(visits), global_count)
        batch = replace(batch, masks=self._masks(uids, latents), prior=prior[0] if prior else None)
        return batch.pinned() if self.pin else batch

    def encode_ahead(self, images: Sequence[tuple[int, int]], pool: Executor | None = None) -> None:
        """Encode the live captions of (picture, visit) that the next batches will hold, all at once: fewer and larger groups of one
        length, and what they share is encoded once. Changes no batch; without it each encodes its own."""
        if self.live:
            asked = [*images, *((*image, PRIOR) for image in images)] if self.prior else images
            self._live.ahead(asked, walk=pool.map if pool else map)

    def caption_is_dropped(self, uid: int, visit: int) -> bool:
        return keyed.uniform(self.seed, uid, visit, "caption_dropout") < self.caption_dropout

    def dropped_encoders(self, uid: int, visit: int) -> frozenset[str]:
        return frozenset(
            name
            for name, share in self.encoder_dropout.items()
            if keyed.uniform(self.seed, uid, visit, "encoder_dropout", name) < share
        )

    def caption_address(self, uid: int, visit: int) -> str:
        """The cached caption of a visit: one of the variants, or the empty prompt."""
        return self._chosen(self.index.caption_addresses(uid), uid, visit)

    def prior_address(self, uid: int, visit: int) -> str:
        """What the cached caption of a visit says to a model that knows no trigger: of the same variant, or the empty prompt."""
        return self._chosen(self.index.prior_addresses(uid), uid, visit)

    def text_addresses(self, uid: int, visit: int) -> list[str]:
        """The cached rows of a visit: its caption and, where it is asked for, its prior."""
        caption = self.caption_address(uid, visit)
        return [caption, self.prior_address(uid, visit)] if self.prior else [caption]

    def _chosen(self, known: Sequence[str], uid: int, visit: int) -> str:
        if not known or self.caption_is_dropped(uid, visit):
            return self.index.empty
        return known[keyed.rng(self.seed, uid, visit, "caption").randrange(len(known))]

    def text_length(self, uid: int, visit: int) -> int:
        """A number that grows with the tokens of the cached caption of a visit: the first sides of its tensors together, of which
        some are equal for all captions of a family. Out of the index alone, so equal on every process; 0 for a row that is gone."""
        try:
            layout = self.index.texts.layout(self.caption_address(uid, visit))
        except DataError:  # `broken=skip` bears it, and who will stand in is not known yet
            return 0
        return sum(shape[0] for _, _, shape in layout if shape)

    def caption(self, uid: int, visit: int, which: int = 0) -> str:
        """The live caption of a visit; with PRIOR, what the same one says to a model that knows no trigger."""
        if self.caption_is_dropped(uid, visit):
            return EMPTY
        assert self.shards is not None and self.policy is not None
        draw = keyed.rng(self.seed, uid, visit, "caption")
        caption = render(self.shards.facts(uid), self.policy, draw, fits=self._fits)
        return caption.prior if which == PRIOR and caption.prior is not None else caption.text

    # -- inside --------------------------------------------------------------------------------------------------------

    def _rows(self, images: Sequence[tuple[int, int]], walk: Callable[..., Iterator[Any]]) -> Iterator[list[TextRow]]:
        """The rows of the captions and, where they are asked for, of the priors."""
        if self.live:
            yield self._live.rows(images, walk=walk)
            if self.prior:
                yield self._live.rows([(*image, PRIOR) for image in images], walk=walk)
            return
        yield list(walk(self._row, [self.caption_address(*image) for image in images]))
        if self.prior:
            yield list(walk(self._row, [self.prior_address(*image) for image in images]))

    def _row(self, address: str) -> TextRow:
        return rows8.unpack(self.index.texts.get(address))

    def _masks(self, uids: Sequence[int], latents: Tensor) -> Tensor | None:
        """`[B, 1, h, w]`, ones for pictures without a mask; None where no picture has one."""
        addresses = [self.index.mask_address(uid) for uid in uids]
        if self.index.masks is None or not any(addresses):
            return None
        masks = latents.new_ones(len(uids), 1, *latents.shape[2:])
        for mask_1hw, address in zip(masks, addresses, strict=True):
            if address:
                mask_1hw.copy_(self.index.masks.get(address)[""])
        return masks


def _check(self: Assembler, texts: str) -> None:
    if texts not in ("cached", "live"):
        raise ConfigError(f"unknown texts '{texts}'", where="data.loader.texts", do="use cached or live")
    if self.live and (self.shards is None or self.policy is None):
        raise ConfigError(
            "live captions need the shards and a caption policy",
            where="data.loader.texts",
            do="give both, or use cached",
        )
    if self.prior and not self.live and not self.index.has_priors:
        raise ConfigError(
            "the cache holds no captions of the class alone", where="recipe.prior.kind",
            why="keeping what the base says under them needs them encoded too",
            do="run 'animeflow cache' with data.cache.prior=true, use data.loader.texts=live, or set recipe.prior.kind=none",
        )  # fmt: skip
    if not self.live and not self.index.variants:
        raise ConfigError(
            "the cache holds no captions, only the empty prompt", where="data.loader.texts",
            do="use data.loader.texts=live, or build the cache with data.cache.variants=4",
        )  # fmt: skip
    self.index.require(tower=self.tower.fingerprint)
    for name, share in {"caption": self.caption_dropout, **self.encoder_dropout}.items():
        if not 0 <= share <= 1:
            raise ConfigError(f"a dropout of {share} for '{name}' is not a share", do="use a number from 0 to 1")
    for name in self.encoder_dropout:
        if name not in self.tower.encoders:
            raise ConfigError(
                f"unknown text encoder '{name}'{did_you_mean(name, self.tower.encoders)}", where="data.loader.encoder_dropout",
                do=f"this family has: {', '.join(self.tower.encoders)}",
            )  # fmt: skip
