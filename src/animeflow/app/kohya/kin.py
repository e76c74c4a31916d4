"""Which family kohya's files are for, and what of them is that family's own: `configs/kohya.yaml`. Knows no family's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.errors import ConfigError
from ..build import build
from ..compose import config_folder
from .book import Book

FILE = "kohya.yaml"


@dataclass(frozen=True)
class Kin:
    """One family as kohya's scripts see it; the comments of the file explain the fields."""

    name: str
    experiment: str
    modules: tuple[str, ...]
    keys: tuple[str, ...]
    names: tuple[str, ...]
    parts: Mapping[str, str]
    timesteps: str
    loss: str
    encoder_dropout: Mapping[str, str]
    reasons: Mapping[str, str]
    ranks: Mapping[str, list[str]]


def families() -> list[Kin]:
    """All that the file names."""
    from omegaconf import OmegaConf

    path = config_folder() / FILE
    node: Any = OmegaConf.to_container(OmegaConf.load(path))
    return [build(Kin, {"name": name, **each}, where=f"{path}: {name}") for name, each in node["families"].items()]


def kin_of(book: Book) -> Kin:
    """By its network module, else by keys that only one family has, else by the file of the model.

    Raises:
        ConfigError: none of ours, or it cannot be told.
    """
    known = families()
    module = str(book.get("network_module") or "")
    by_module = [kin for kin in known if module in kin.modules]
    if by_module:
        return by_module[0]
    path = str(book.get("pretrained_model_name_or_path") or book.get("dit_path") or "").lower()
    votes = {
        kin.name: 2 * len(set(kin.keys) & book.told.keys()) + any(name in path for name in kin.names) for kin in known
    }
    best = max(known, key=lambda kin: votes[kin.name])
    if not votes[best.name] or sum(vote == votes[best.name] for vote in votes.values()) > 1:
        raise ConfigError(
            f"the model is none that can be trained here{f': {module}' if module else ''}",
            where=", ".join(("network_module", "pretrained_model_name_or_path")),
            why="a LoRA of one model has no meaning for another",
            do=f"give a config for {' or '.join(each for kin in known for each in kin.modules)}; with a dataset TOML "
            "alone, give the model as --base PATH",
        )
    return best
