"""PNG files that carry their recipe. Knows samples and PNG text; knows no model.

Two text chunks: `animeflow` holds the recipe as JSON, exactly; `parameters` holds the same in the words that web interfaces
and picture browsers already read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ..core import files
from ..core.errors import DataError

KEY = "animeflow"

# Words that other programs expect; what they lack keeps our name.
_SAMPLERS = {
    "euler": "Euler",
    "heun": "Heun",
    "euler_ancestral": "Euler a",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "er_sde": "ER SDE",
}
_SCHEDULES = {
    "linear": "Simple",
    "simple": "Simple",
    "normal": "Normal",
    "sgm_uniform": "SGM Uniform",
    "karras": "Karras",
    "beta": "Beta",
}


def save(path: str | Path, pixels: np.ndarray, recipe: Mapping[str, Any]) -> Path:
    """Write uint8 RGB `[H, W, 3]` losslessly with its recipe; the file is whole or absent."""
    text = PngImagePlugin.PngInfo()
    text.add_text(KEY, json.dumps(dict(recipe), sort_keys=True))  # ASCII with \u escapes, so any reader takes it
    text.add_text("parameters", parameters(recipe))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=text)
    files.write_bytes(path, buffer.getvalue())
    return Path(path)


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe that `save` wrote. Raises DataError for anything else than a PNG with one."""
    try:
        with Image.open(path) as picture:
            text = getattr(picture, "text", {})
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(
            f"not a readable picture: {error}", where=str(path), do="give a PNG that `sample` wrote"
        ) from error
    if KEY not in text:
        raise DataError("this picture carries no recipe of ours", where=str(path), do="give a PNG that `sample` wrote")
    return json.loads(text[KEY])


def parameters(recipe: Mapping[str, Any]) -> str:
    """The recipe as three lines: prompt, negative prompt, and settings as `Name: value`."""
    model = recipe.get("model", {})
    solver, schedule = recipe.get("solver"), recipe.get("schedule")
    settings = {
        "Steps": recipe.get("steps"),
        "Sampler": _SAMPLERS.get(str(solver), solver),
        "Schedule type": _SCHEDULES.get(str(schedule), schedule),
        "CFG scale": recipe.get("cfg"),
        "Seed": recipe.get("seed"),
        "Size": f"{recipe.get('width')}x{recipe.get('height')}",
        "Shift": recipe.get("shift"),
        "Eta": recipe.get("eta"),
        "Model": " ".join(str(model[key]) for key in ("name", "flavour") if key in model) or None,
        "Version": f"animeflow {recipe.get('animeflow', '')}".strip(),
    }
    line = ", ".join(f"{name}: {value}" for name, value in settings.items() if value is not None)
    return f"{recipe.get('prompt', '')}\nNegative prompt: {recipe.get('negative', '')}\n{line}"
