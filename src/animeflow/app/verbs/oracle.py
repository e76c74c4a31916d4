"""Train the small network that reads drawn attributes back, and say how often it is right on pictures it never saw."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ..build import build
from ..compose import compose
from ..wiring import use_threads

log = logging.getLogger(__name__)
ENOUGH = 0.99  # below this share of attributes read right, what it says about a model is not worth printing


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    config = compose(overrides)
    use_threads(config["train"]["threads"])
    learn(config, dry_run=dry_run)


def learn(config: dict[str, Any], *, dry_run: bool = False) -> None:
    from ...evaluate.oracle import Oracle
    from ...evaluate.training import Budget, train_oracle

    node = config["evaluate"]
    if node["oracle"] is None:
        raise ConfigError(
            "this set has no oracle", where="evaluate.oracle", do="set it to a folder; it reads drawn pictures only"
        )
    folder = Path(node["oracle"])
    if dry_run:
        log.info("would train an oracle into %s", folder)
        return
    sizes = tuple((int(height), int(width)) for height, width in config["toonworld"]["sizes"])
    budget = build(Budget, node["oracle_budget"], where="evaluate.oracle_budget")
    made_from = {"seed": config["seed"], "sizes": [list(size) for size in sizes], "budget": asdict(budget)}
    oracle = Oracle.load(folder) if (folder / "oracle.json").is_file() else None
    if oracle is not None and {key: oracle.record.get(key) for key in made_from} == made_from:
        log.info("oracle: %s is there already", folder)
    else:
        oracle = train_oracle(sizes=sizes, seed=config["seed"], budget=budget, workers=config["toonworld"]["workers"])
        oracle.save(folder)
    accuracy = oracle.record["accuracy"]
    for name, value in accuracy.items():
        log.info("oracle reads %-12s %5.1f %% right", name, 100 * value)
    mean = oracle.record["mean_accuracy"]
    log.log(
        logging.INFO if mean >= ENOUGH else logging.WARNING,
        "oracle: %.2f %% of attributes read right on pictures it never saw",
        100 * mean,
    )
