"""animeflow: from a booru dump to a rectified-flow checkpoint that ComfyUI and diffusers load.

    from animeflow import train_lora

    result = train_lora("pictures/eileen", base="models/stable-diffusion-3.5-medium")

This module imports nothing until a name of it is asked for, so that `animeflow --help` answers at once; the rooms are
imported by their own names.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

# Name -> the module that has it.
_LIBRARY = dict.fromkeys(("LoraResult", "plan_lora", "train_lora"), "animeflow.app.library")
__all__ = ["__version__", *_LIBRARY]


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for (PEP 562)."""
    if name not in _LIBRARY:
        raise AttributeError(f"module 'animeflow' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_LIBRARY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
