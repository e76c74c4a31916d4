"""The models that configs/model names, composed once. Knows config words; builds nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ..compose import choices, compose, config_folder


@cache
def presets() -> Mapping[str, Mapping[str, Any]]:
    """Name of each preset -> its settings; relative paths are as they stand there."""
    return {name: compose([f"model={name}"])["model"] for name in choices(config_folder(), "model")}
