"""Drawn pictures with their truth, as classes to learn and to test on. Knows toonworld; knows no network (so workers
start fast).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from ..toonworld.draw import draw
from ..toonworld.words import ATTRIBUTES, SCENE_ATTRIBUTES
from ..toonworld.world import Scene, attributes, sample_scene

Size = tuple[int, int]  # height, width in pixels

# More pictures with several figures and with members of the cast than a data set has: rare classes need examples too.
COUNT_WEIGHTS: Mapping[int, float] = {1: 0.82, 2: 0.10, 3: 0.08}
NAMED_SHARE = 0.5

Drawn = tuple[NDArray[np.uint8], Scene]


def truth(scene: Scene) -> dict[str, str]:
    """What a picture of `scene` can be asked about: everything when it shows one figure, else what belongs to the whole picture
    (which of several figures a hair colour should be read from is not defined)."""
    known = attributes(scene)
    return known if len(scene.figures) == 1 else {name: known[name] for name in SCENE_ATTRIBUTES}


def classes(scene: Scene) -> list[int]:
    """`truth` as indices into the values of `ATTRIBUTES`, in its order; -1 where nothing can be asked."""
    known = truth(scene)
    return [values.index(known[name]) if name in known else -1 for name, values in ATTRIBUTES.items()]


def draw_one(
    index: int, *, seed: int, sizes: Sequence[Size], named_share: float, count_weights: Mapping[int, float]
) -> Drawn:
    """Picture number `index` of this world; sizes take turns. Every combination may occur: an oracle that never saw a held-out
    one would doubt exactly the pictures it is there to judge."""
    scene = sample_scene(seed, index, named_share=named_share, count_weights=count_weights)
    return draw(scene, *sizes[index % len(sizes)], layers=False).pixels, scene


def draw_many(
    count: int,
    *,
    seed: int,
    sizes: Sequence[Size],
    workers: int = 1,
    named_share: float = NAMED_SHARE,
    count_weights: Mapping[int, float] = COUNT_WEIGHTS,
) -> Iterator[Drawn]:
    """`count` pictures in order. The same arguments give the same pixels, whatever `workers` is."""
    one = partial(draw_one, seed=seed, sizes=tuple(sizes), named_share=named_share, count_weights=dict(count_weights))
    if workers <= 1:
        yield from map(one, range(count))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        yield from pool.map(one, range(count), chunksize=50)


def _one_thread() -> None:
    """OpenCV reads this when it first works; its own threads only stand in the way of the other workers (12.9 ms to 7.0 ms of
    processor time per picture)."""
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
