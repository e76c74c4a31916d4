"""Which GPUs a plan reckons with, what they cost, what share of them a run is taken to reach: a dated file that the user edits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from .build import build
from .compose import config_folder

NAME = "machines.yaml"


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU: memory in GiB, dense bf16 peak in TFLOP/s, US dollars an hour from low to high.

    Args:
        home: a card that people have at home: in plans of one process only.
    """

    memory_gib: float
    peak_tflops: float
    price: tuple[float, float]
    home: bool = False

    def __post_init__(self) -> None:
        require_range(self.price, where=f"{NAME}: price")


@dataclass(frozen=True)
class Machines:
    """What `configs/machines.yaml` says; see the comments there."""

    date: str
    source: str
    mfu: float
    mfu_source: str
    mfu_compared: tuple[float, ...]
    reserve_gib: float
    gpus: Mapping[str, Gpu]
    file: str

    def __post_init__(self) -> None:
        for share in (self.mfu, *self.mfu_compared):
            if not 0 < share <= 1:
                raise ConfigError(f"{share} is not a share of a chip", where=f"{self.file}: mfu", do="0.45 is usual")


def read_machines(folder: Path | None = None) -> Machines:
    """The file in the working folder (or `folder`), else the one in `configs/`. Raises ConfigError for one that cannot be used."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = (folder or Path()) / NAME
    path = path if path.is_file() else config_folder() / NAME
    try:
        node: Any = OmegaConf.to_container(OmegaConf.load(path))
        gpus = {str(name): build(Gpu, each, where=f"{path}: gpus.{name}") for name, each in node.pop("gpus").items()}
    except (OmegaConfBaseException, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the file of GPUs and prices cannot be read: {error}",
            where=str(path),
            do=f"compare it with configs/{NAME}",
        ) from error
    return build(Machines, {**node, "date": str(node.get("date"))}, where=str(path), gpus=gpus, file=str(path))


def require_range(price: Any, *, where: str) -> tuple[float, float]:
    """`(low, high)`. Raises ConfigError for anything else."""
    if not (isinstance(price, list | tuple) and len(price) == 2 and 0 <= price[0] <= price[1]):
        raise ConfigError(f"price_per_hour {price} is not [low, high]", where=where, do="for example [2.0, 3.5]")
    return float(price[0]), float(price[1])
