"""What of a family's backbone learns, as a config says it: all of it, or low-rank additions. Knows config words and parts."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import files
from ..core.errors import ConfigError, did_you_mean
from .build import build

if TYPE_CHECKING:
    from ..learn.settings import LoraSettings

log = logging.getLogger(__name__)

KINDS = ("everything", "lora")
OTHERS = ("vae", "text_encoder")  # of a diffusers folder: parts that have fingerprints of their own
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Learner:
    """The module that a trainer is given.

    Attributes:
        on_base: what is frozen is a base that lies elsewhere.
        facts: for the record of a run: kind, rank, layers, parameters, base.
    """

    module: Any
    on_base: bool
    facts: Mapping[str, Any]


def lora_settings(config: Config) -> LoraSettings | None:
    """Settings of the additions; None where everything learns. Raises ConfigError for a kind that does not exist, or that others
    have and animeflow has not."""
    from ..learn.settings import UNSUPPORTED, LoraSettings

    node = dict(config.get("learn") or {"kind": "everything"})
    kind = str(node.pop("kind", "everything"))
    if kind in UNSUPPORTED:
        raise unsupported(kind)
    if kind not in KINDS:
        raise ConfigError(
            f"unknown kind '{kind}'{did_you_mean(kind, KINDS)}",
            where="learn.kind",
            do=f"choose one of: {', '.join(KINDS)}",
        )
    return build(LoraSettings, node, where="learn") if kind == "lora" else None


def unsupported(kind: str) -> ConfigError:
    return ConfigError(
        f"{kind} is not supported",
        where="learn",
        why="plain LoRA is what every program reads, and what the model cards of these families recommend",
        do="use learn=lora",
    )


def learner(config: Config, fam: Any) -> Learner:
    """The family's backbone, with additions on it where the config wants them. Raises ConfigError for settings that make none."""
    backbone = fam.backbone()
    if lora_settings(config) is None:
        return Learner(backbone, False, {"kind": "everything"})
    add(config, fam, backbone)
    return Learner(backbone, True, lora_facts(config, fam))


def add(config: Config, fam: Any, backbone: Any) -> None:
    """Put the additions of the config on `backbone`, a network of this family, in place, and freeze the rest."""
    from ..learn import attach

    settings = lora_settings(config)
    assert settings is not None
    _require_simple(config)
    start = None
    if settings.start is not None:
        start = _start(config, fam.name)
        settings = attach.continued(settings, start)
    if settings.base_dtype in ("int8", "nf4"):
        from ..model.low_bit import quantise

        number = quantise(backbone, attach.frozen_linear(fam, backbone), settings.base_dtype)
        log.info("%d frozen layers in %s", number, settings.base_dtype)
    attach.attach(fam, backbone, settings, seed=config["seed"])
    if settings.base_dtype != "fp32":
        import torch

        attach.freeze_into(backbone, torch.bfloat16)
    if start is not None:
        from ..learn.state import load_lora_state

        load_lora_state(backbone, fam, start)
        log.info("going on from %s", settings.start)


def _start(config: Config, family: str) -> Any:
    """What the run goes on from."""
    from ..learn.files import read_lora
    from .loras import tell_text_keys

    found = read_lora(start_file(config), family=family)
    tell_text_keys(found)
    return found.state


def start_file(config: Config) -> Path:
    """The LoRA that a run goes on from: its own copy, once it has begun, since it is asked for at every resume and export."""
    given, kept = Path(config["learn"]["start"]), Path(config["run"]) / "start"
    own = kept if kept.is_dir() else kept.with_suffix(".safetensors")
    begun = any((Path(config["run"]) / "checkpoints").glob("[0-9]*"))
    return own if begun and own.exists() else given


def start_identity(config: Config) -> str | None:
    """A hash of what the run goes on from; None where it begins at nothing."""
    from .loras import content

    return None if config["learn"].get("start") is None else content(start_file(config))


def keep_start(config: Config) -> None:
    """Copy what the run goes on from into its folder, whole or not at all."""
    start = config["learn"].get("start") if (config.get("learn") or {}).get("kind") == "lora" else None
    if start is None or start_file(config) != Path(start):
        return
    kept = Path(config["run"]) / "start"
    shutil.rmtree(kept, ignore_errors=True)  # of a run that never came to a checkpoint
    kept.with_suffix(".safetensors").unlink(missing_ok=True)
    if Path(start).is_dir():
        with files.atomic_folder(kept) as folder:
            shutil.copytree(start, folder, dirs_exist_ok=True)
    else:
        with files.atomic_path(kept.with_suffix(".safetensors")) as temporary:
            shutil.copyfile(start, temporary)


def planned(config: Config, fam: Any) -> dict[str, Any] | None:
    """What a plan says about the additions, with nothing built: None where everything learns."""
    from ..learn import attach

    settings = lora_settings(config)
    if settings is None:
        return None
    if settings.start is not None:
        settings = attach.continued(settings, _start(config, fam.name))
    found = attach.numbers(fam, fam.outline(), settings)
    return {"parameters": sum(found.values())} | _facts(config, settings, list(found))


def lora_facts(config: Config, fam: Any) -> dict[str, Any]:
    """What a record says about the additions that are on the family's backbone."""
    from ..learn.attach import continued, lora_modules
    from ..learn.state import lora_state

    settings = lora_settings(config)
    assert settings is not None
    if settings.start is not None:
        settings = continued(settings, lora_state(fam.backbone(), fam))
    learns = sum(p.numel() for p in fam.backbone().parameters() if p.requires_grad)
    return {"parameters": learns} | _facts(config, settings, list(lora_modules(fam.backbone(), fam)))


def _facts(config: Config, settings: LoraSettings, layers: list[str]) -> dict[str, Any]:
    scales = sorted({round(settings.alpha_of(name) / settings.rank_of(name), 6) for name in layers})
    return {
        "kind": "dora" if settings.dora else "lora",
        "rank": settings.rank,
        "alpha": settings.alpha if settings.alpha is not None else settings.rank,
        "ranks": sorted({settings.rank_of(name) for name in layers}),
        "scale": scales[0] if len(scales) == 1 else scales,
        "rslora": settings.rslora,
        "targets": settings.targets if isinstance(settings.targets, str) else list(settings.targets),
        "layers": len(layers),
        "base": base_name(config),
        "base_dtype": settings.base_dtype,
        "start": None if settings.start is None else Path(settings.start).name,
        "effective_rate": [config["optim"]["lr"] * scale for scale in (scales[0], scales[-1])],
    }


def base_name(config: Config) -> str:
    weights = config["model"].get("weights")
    return Path(str(weights)).name if weights else "random weights"


def base_identity(config: Config) -> str | None:
    """What tells a base from another one with the same path: a hash of its files. None for random weights, whose seed tells."""
    from ..model import registry
    from ..model.weights import hash_files

    weights = config["model"].get("weights")
    if not weights:
        return None
    at = registry.constructor(config["model"]["family"]).weights_at(Path(weights))
    path = Path(at.get("weights") or weights)
    if path.is_file():
        return hash_files([path])
    parts = (file for file in path.rglob("*.safetensors") if not file.relative_to(path).parts[0].startswith(OTHERS))
    return hash_files(sorted(parts))


def _require_simple(config: Config) -> None:
    """Raises ConfigError for what does not go together with additions on a frozen base."""
    train = config["train"]
    if train["fp8"]:
        raise ConfigError(
            "a LoRA does not learn over 8-bit arithmetic",
            where="train.fp8",
            do="set train.fp8=false; learn.base_dtype=int8 saves memory instead",
        )
    if config["learn"].get("base_dtype", "bf16") != "fp32" and train["precision"] == "fp32":
        raise ConfigError(
            f"a base in {config['learn'].get('base_dtype', 'bf16')} needs bf16 arithmetic",
            where="learn.base_dtype",
            why="its weights meet activations in float32 otherwise",
            do="set train.precision=bf16, or learn.base_dtype=fp32",
        )
    if train["sharding"] in ("fsdp2", "hsdp") and config["learn"].get("base_dtype", "bf16") != "fp32":
        raise ConfigError(
            f"a base in {config['learn'].get('base_dtype', 'bf16')} cannot be sharded together with float32 additions",
            where="learn.base_dtype",
            do="set train.sharding=none (a LoRA leaves room), or learn.base_dtype=fp32",
        )
    if str(config["model"].get("adapter", "freeze")) != "freeze":
        raise ConfigError(
            f"model.adapter={config['model']['adapter']} and a LoRA do not go together",
            where="model.adapter",
            why="only the additions are saved, so what else is trained would be lost",
            do="set model.adapter=freeze; learn.targets=adapter adds to the text adapter too",
        )
