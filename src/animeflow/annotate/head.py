"""What is trained on a frozen encoder's vectors: a line or a small network that says how much a picture looks machine-made.

Its score orders a queue. It never takes a picture out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from ..catalogue import beside
from ..core import seed as keyed
from ..core.errors import ConfigError, DataError
from ..core.files import address, atomic_folder, read_json, sha256_file, write_json
from .detector import LEAST, Quality, auc, divided
from .encoder import Vectors
from .scoring import scores_file

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class HeadBudget:
    """Of a head.

    Args:
        hidden: width of the layer between; 0 draws a straight line.
        steps: each over all vectors.
        lr: peak learning rate. decay: of the weights.
        test_share: of the labelled pictures that measure, and teach nothing.
        pictures: of each kind that it learns from at most; where more are labelled the seed draws them.
    """

    hidden: int = 0
    steps: int = 200
    lr: float = 1e-2
    decay: float = 0.1
    test_share: float = 0.25
    pictures: int = 5000

    def __post_init__(self) -> None:
        if self.hidden < 0 or self.steps < 1 or self.pictures < LEAST or not 0 < self.test_share < 1:
            raise ConfigError(f"{self} is no budget", where="annotate.detector.encoder")


class Head(nn.Module):
    """Vectors `[N, D]` -> logits `[N]`. Each number is measured in deviations from its mean over what it learned from."""

    mean_D: torch.Tensor
    scale_D: torch.Tensor

    def __init__(self, width: int, *, hidden: int = 0) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("scale_D", torch.ones(width))
        layers = [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1)] if hidden else [nn.Linear(width, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x_ND: torch.Tensor) -> torch.Tensor:
        # A number that hardly ever moved while learning, and leaps in a new picture, says no more than a few deviations.
        return self.layers(((x_ND - self.mean_D) * self.scale_D).clamp(-8, 8))[:, 0]

    @torch.inference_mode()
    def scores(self, vectors: Vectors) -> NDArray[np.float32]:
        """In 0..1."""
        return np.asarray(torch.sigmoid(self(torch.from_numpy(np.ascontiguousarray(vectors)))).numpy(), np.float32)

    def save(self, folder: Path, quality: Quality, *, encoder: str) -> str:
        """Write it, whole or not at all; returns its version.

        Args:
            encoder: version of the one whose vectors it reads.
        """
        hidden = self.layers[0].out_features if len(self.layers) > 1 else 0
        with atomic_folder(folder) as temporary:
            save_file(self.state_dict(), temporary / "model.safetensors")
            record = {"format": FORMAT, "hidden": hidden, "encoder": encoder, "quality": asdict(quality)}
            write_json(temporary / "record.json", record)
        return address(model=sha256_file(folder / "model.safetensors"), encoder=encoder)[:16]

    @classmethod
    def load(cls, folder: Path) -> Head:
        """Raises DataError where there is none."""
        try:
            record, state = read_json(folder / "record.json"), load_file(folder / "model.safetensors")
        except (OSError, ValueError) as error:
            raise DataError("there is no head", where=str(folder), do="run 'animeflow annotate detector'") from error
        head = cls(len(state["mean_D"]), hidden=int(record["hidden"]))
        head.load_state_dict(state)
        return head.eval()


def train_head(
    labels: Mapping[int, bool], vectors: Mapping[int, NDArray[np.float32]], *, budget: HeadBudget, seed: int = 0
) -> tuple[Head, Quality]:
    """Learn from labelled pictures, and measure on those that were held back.

    Args:
        labels: uid -> whether it is machine-made; one without a vector teaches nothing.
    Raises:
        DataError: there are fewer than `LEAST` of a kind.
    """
    labels = {uid: label for uid, label in labels.items() if uid in vectors}
    train, test = divided(labels, pictures=budget.pictures, test_share=budget.test_share, seed=seed)
    x_ND = np.stack([vectors[uid] for uids in train for uid in uids])
    made_N = np.repeat([False, True], [len(uids) for uids in train])
    head = fit(x_ND, made_N, budget=budget, seed=seed)
    scores = [head.scores(np.stack([vectors[uid] for uid in uids])).tolist() for uids in test]
    return head, Quality(auc(scores[1], scores[0]), len(test[1]), len(test[0]))


def fit(x_ND: Vectors, made_N: NDArray[np.bool_], *, budget: HeadBudget, seed: int = 0) -> Head:
    """A head for these vectors; both kinds weigh the same, however many there are of each."""
    x, y = torch.from_numpy(np.ascontiguousarray(x_ND)), torch.from_numpy(made_N.astype(np.float32))
    share = float(y.mean().clamp(1e-6, 1 - 1e-6))
    weight_N = torch.where(y > 0, 0.5 / share, 0.5 / (1 - share))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed.key("detector head", seed) % 2**63)
        head = Head(x.shape[1], hidden=budget.hidden)
    head.mean_D.copy_(x.mean(0))
    head.scale_D.copy_(1 / (x.std(0, correction=0) + 1e-4))
    optimizer = torch.optim.AdamW(head.parameters(), lr=budget.lr, weight_decay=budget.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget.steps)
    for _ in range(budget.steps):
        loss = F.binary_cross_entropy_with_logits(head(x), y, weight=weight_N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def write_scores(
    folder: Path, seen: Iterator[tuple[NDArray[np.int64], Vectors]], head: Head, *, tool: str, version: str
) -> int:
    """What a head says of every vector, as `scores/<tool>.parquet`; how many there are. An older version's table goes.

    Args:
        folder: of the catalogue. seen: as `embeddings.vectors` gives them.
    """
    file, about, count = scores_file(folder, tool), {"tool": tool, "version": version}, 0
    if beside.told(file).get("version", version) != version:
        beside.forget(file)
    for uids, found in seen:
        rows: list[dict[str, Any]] = [
            {"uid": uid, "name": "ai", "score": score}
            for uid, score in zip(uids.tolist(), head.scores(found).tolist(), strict=True)
        ]
        beside.append(file, beside.SCORES, rows, about=about)
        count += len(rows)
    beside.settle(file, beside.SCORES)
    return count
