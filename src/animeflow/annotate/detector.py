"""A small network that learns what people call machine-made, out of pictures whose origin is known. Its score orders a queue.

It looks at patches in the size that they have: what gives a generator away is in the texture, and shrinking takes that first. It
never takes a picture out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import seed as keyed
from ..core.errors import ConfigError, DataError
from ..core.files import address, atomic_folder, read_json, sha256_file, write_json
from ..core.log import progress
from ..image.picture import Pixels
from .patches import cut, spread

WINDOW = 384  # pixels a side that are held in memory of a picture to learn from
LEAST = 20  # labelled pictures of each kind, below which nothing is learned
FORMAT = 1


class DetectorNet(nn.Module):
    """`[B, 3, PATCH, PATCH]` in [0, 1] -> logits `[B]`."""

    def __init__(self, widths: tuple[int, int, int] = (12, 24, 32)) -> None:
        super().__init__()
        a, b, c = widths
        self.body = nn.Sequential(_block(6, a), _block(a, b, stride=2), _block(b, c, stride=2), _block(c, c, stride=2))
        self.head = nn.Linear(2 * c, 1)

    def forward(self, x_B3hw: Tensor) -> Tensor:
        # Beside the colours what is left without their surroundings, where smears and seams are: on drawn pictures 60 steps then
        # reach an area under the curve of 0.98 instead of 0.80.
        fine_B3hw = x_B3hw - F.avg_pool2d(x_B3hw, 3, 1, 1, count_include_pad=False)
        found = self.body(torch.cat([(x_B3hw - 0.5) * 4, fine_B3hw * 16], 1))
        return self.head(torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1))[:, 0]


def _block(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Of the training.

    Args:
        steps: of 64 patches, half of each kind.
        patches: of a picture that are read when it is scored, spread over it.
        lr: peak learning rate.
        test_share: of the labelled pictures that measure, and teach nothing.
        pictures: of each kind that are looked at; where more are labelled the seed draws them.
    """

    steps: int = 300
    patches: int = 9
    lr: float = 2e-3
    test_share: float = 0.25
    pictures: int = 500

    def __post_init__(self) -> None:
        if self.steps < 1 or self.patches < 1 or self.pictures < LEAST or not 0 < self.test_share < 1:
            raise ConfigError(f"{self} is no budget", where="annotate.detector")


@dataclass(frozen=True)
class Quality:
    """Of a detector on labelled pictures that it did not learn from: area under the curve, and how many of each kind."""

    auc: float
    positives: int
    negatives: int


class Detector:
    """Patches of a picture to one score in 0..1, the mean over them."""

    def __init__(self, net: DetectorNet, *, patches: int = 9) -> None:
        self.net, self.patches = net.eval(), patches

    @torch.inference_mode()
    def score(self, pixels: Pixels) -> float:
        found = torch.stack([_tensor(patch) for patch in spread(pixels, self.patches)])
        return float(torch.sigmoid(self.net(found)).mean())

    def say(self, pictures: Sequence[Pixels]) -> list[dict[str, float]]:
        """As `scoring.score_all` asks."""
        return [{"ai": self.score(pixels)} for pixels in pictures]

    def save(self, folder: Path, quality: Quality) -> str:
        """Write it, whole or not at all; returns its version."""
        with atomic_folder(folder) as temporary:
            save_file(self.net.state_dict(), temporary / "model.safetensors")
            record = {"format": FORMAT, "patches": self.patches, "quality": vars(quality)}
            write_json(temporary / "record.json", record)
        return address(model=sha256_file(folder / "model.safetensors"), patches=self.patches)[:16]

    @classmethod
    def load(cls, folder: Path) -> Detector:
        """Raises DataError where there is none."""
        try:
            record, state = read_json(folder / "record.json"), load_file(folder / "model.safetensors")
        except (OSError, ValueError) as error:
            raise DataError(
                "there is no detector", where=str(folder), do="run 'animeflow annotate detector'"
            ) from error
        net = DetectorNet()
        net.load_state_dict(state)
        return cls(net, patches=int(record["patches"]))


def train_detector(
    labels: Mapping[int, bool], pixels_of: Callable[[int], Pixels], *, budget: Budget, seed: int = 0
) -> tuple[Detector, Quality]:
    """Learn from labelled pictures, and measure on those that were held back.

    Args:
        labels: uid -> whether it is machine-made.
        pixels_of: uint8 RGB of a picture; asked once at most for each.
    Raises:
        DataError: there are fewer than `LEAST` of a kind.
    """
    train, test = divided(labels, pictures=budget.pictures, test_share=budget.test_share, seed=seed)
    windows = [[_window(pixels_of(uid), seed, uid) for uid in uids] for uids in train]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed.key("detector", seed) % 2**63)
        net = _fit(DetectorNet(), windows, budget, seed)
    detector = Detector(net, patches=budget.patches)
    scores = [[detector.score(pixels_of(uid)) for uid in uids] for uids in test]
    return detector, Quality(auc(scores[1], scores[0]), len(test[1]), len(test[0]))


def _fit(net: DetectorNet, kinds: list[list[Pixels]], budget: Budget, seed: int) -> DetectorNet:
    optimizer = torch.optim.AdamW(net.parameters(), lr=budget.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, budget.lr, total_steps=budget.steps)
    target = torch.cat([torch.zeros(32), torch.ones(32)])
    net.train()
    with progress("detector", budget.steps) as advance:
        for x_B3hw in _batches(kinds, budget.steps, seed):
            loss = F.binary_cross_entropy_with_logits(net(x_B3hw), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(1)
    return net.eval()


def _batches(kinds: list[list[Pixels]], steps: int, seed: int) -> Iterator[Tensor]:
    """32 patches of each kind, from anywhere, half of them mirrored."""
    rng = np.random.default_rng(keyed.key("patches", seed))
    for _ in range(steps):
        patches = []
        for pictures in kinds:
            for number in rng.integers(len(pictures), size=32):
                patch = cut(pictures[number], *rng.random(2))
                patches.append(patch[:, ::-1] if rng.random() < 0.5 else patch)
        yield torch.stack([_tensor(patch) for patch in patches])


def _tensor(patch: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1))).float() / 255


def _window(pixels: Pixels, seed: int, uid: int) -> Pixels:
    """A part of a large picture, from anywhere in it, and nothing that keeps the rest."""
    rng = keyed.rng(seed, uid, "detector window")
    top, left = (int(rng.random() * max(0, side - WINDOW)) for side in pixels.shape[:2])
    return pixels[top : top + WINDOW, left : left + WINDOW].copy()


def divided(
    labels: Mapping[int, bool], *, pictures: int, test_share: float, seed: int
) -> tuple[list[list[int]], list[list[int]]]:
    """uids to learn from and to measure with, each of those that are not machine-made and those that are.

    Raises:
        DataError: there are fewer than `LEAST` of a kind.
    """
    kinds = [sorted(uid for uid, label in labels.items() if label is wanted) for wanted in (False, True)]
    if min(map(len, kinds)) < LEAST:
        raise DataError(
            f"{len(kinds[1])} pictures are known to be machine-made and {len(kinds[0])} not; both have to be {LEAST} at least",
            where="annotate detector",
            why="a detector that learned from fewer finds its own habits",
            do="decide on more (animeflow decide --origin ai PICTURE, or human), or import some whose origin is known",
        )
    train, test = [], []
    for uids in kinds:
        order = keyed.permutation(len(uids), seed, "detector split")[:pictures]
        cut_at = max(1, round(len(order) * test_share))
        train.append([uids[i] for i in order[cut_at:]])
        test.append([uids[i] for i in order[:cut_at]])
    return train, test


def auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Chance that a positive has a higher score than a negative; ties count half (Mann and Whitney)."""
    a, b = np.asarray(positives)[:, None], np.asarray(negatives)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())


def queue(scores: Mapping[int, float], *, by: str = "score") -> list[int]:
    """uids in the order in which a person should look: by score, the likeliest first, or by doubt, those nearest a half first."""
    if by not in ("score", "doubt"):
        raise ConfigError(f"a queue is ordered by score or doubt, not by '{by}'", where="annotate.detector.queue")
    doubt = by == "doubt"
    return sorted(scores, key=lambda uid: (abs(scores[uid] - 0.5) if doubt else -scores[uid], uid))
