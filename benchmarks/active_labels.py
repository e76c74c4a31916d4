"""How many labels doubt needs beside chance for the same area under the curve: PYTHONPATH=src python benchmarks/active_labels.py

Drawn pictures, of which a share is made as a weak generator would make them (`toonworld.variants.generator_like`). The frozen
network is a bank of fixed random filters without mean, measured by the strength of their answers: it has learned nothing.
"""

from __future__ import annotations

import argparse
import json

import cv2
import numpy as np
import torch

from animeflow.annotate.active import Curve, learn
from animeflow.annotate.encoder import Encoder
from animeflow.annotate.head import HeadBudget
from animeflow.toonworld.dataset import World
from animeflow.toonworld.variants import generator_like

ROUNDS = (40, 60, 80, 100, 120, 150, 180, 220, 260, 310, 370, 440, 520, 620, 740, 880, 1050, 1250, 1500)


class Filters:
    """The logarithms of how strongly random filters answer, and of how strongly at the most, at two sizes."""

    side, version = 64, "1"

    def __init__(self, count: int = 32) -> None:
        rng = np.random.default_rng(0)
        self.bank = [each - each.mean() for each in rng.normal(size=(count, 3, 3))]

    def see(self, pictures):
        return np.stack([self._one(each) for each in pictures])

    def _one(self, pixels):
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
        found = []
        for plane in (grey, cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)):
            for kernel in self.bank:
                answer = np.abs(cv2.filter2D(plane, -1, kernel))
                found += [answer.mean(), np.sqrt((answer * answer).mean()), np.quantile(answer[::2, ::2], 0.75)]
        return np.log(np.float32(found) + 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2400, help="two thirds may be asked about, one third measures")
    parser.add_argument("--share", type=float, default=0.1, help="of machine-made ones")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    world, encoder = World(seed=11, sizes=((96, 96), (112, 96))), Encoder(Filters(), "filters", pieces=0)
    made = np.random.default_rng(1).random(options.pictures) < options.share
    vectors = np.concatenate([encoder.encode([drawn(world, uid, made[uid])]) for uid in range(options.pictures)])
    cut = options.pictures * 2 // 3
    rounds = [count for count in ROUNDS if count <= cut]
    curves: dict[str, list[Curve]] = {}
    for by in ("random", "doubt", "score"):
        curves[by] = [
            learn(vectors[:cut], made[:cut], vectors[cut:], made[cut:], by=by, rounds=rounds,
                  budget=HeadBudget(steps=100), seed=seed) for seed in range(options.seeds)
        ]  # fmt: skip
        means = {
            by: [round(float(np.mean(each)), 4) for each in zip(*(curve.auc for curve in curves[by]), strict=True)]
        }
        print(json.dumps(means), flush=True)
    middle = {
        by: Curve(tuple(rounds), tuple(np.mean([c.auc for c in found], 0).tolist())) for by, found in curves.items()
    }
    for wanted in (0.86, 0.88, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96):
        print(wanted, {by: curve.needed(wanted) for by, curve in middle.items()})


def drawn(world: World, uid: int, made: bool):
    pixels = world.drawing(uid).pixels
    return generator_like(pixels, seed=uid)[0] if made else pixels


if __name__ == "__main__":
    main()
