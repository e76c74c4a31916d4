"""Our files in a real ComfyUI, where there is one: ANIMEFLOW_COMFYUI is its folder, ANIMEFLOW_COMFYUI_PYTHON its Python if it has
one of its own. The script that users have does the looking."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from animeflow.core.seed import normal
from animeflow.learn.files import write_lora
from animeflow.model import registry
from animeflow.model.low_rank import LowRank

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_in_comfyui.py"


def checked(*words: str | Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, str(SCRIPT), *map(str, words)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def comfyui() -> Path:
    folder = os.environ.get("ANIMEFLOW_COMFYUI")
    if not folder:
        pytest.skip("ANIMEFLOW_COMFYUI does not say where a ComfyUI is")
    return Path(folder)


def test_without_a_comfyui_it_says_what_it_looked_for(tmp_path):
    found = checked("--comfyui", tmp_path, tmp_path / "none.safetensors")
    assert found.returncode == 2
    assert "none.safetensors" in found.stderr


@pytest.mark.slow
def test_comfyui_uses_every_key_of_ours_and_misses_one_that_is_not(comfyui, tmp_path):
    python = os.environ.get("ANIMEFLOW_COMFYUI_PYTHON", sys.executable)
    family = registry.constructor("sd35")("tiny", depth=3, heads=3)  # the one family that ComfyUI builds in any size
    state = family.backbone().export_state()
    options = {"dtype": torch.float32, "metadata": {}}
    files = [
        file
        for name in ("single_file", "diffusion_only")
        for file in family.layouts()[name].write(state, tmp_path / name, **options)
    ]
    weights = {name: state[f"{name}.weight"] for name in family.lora_layers(family.backbone())}
    additions = {
        name: LowRank(normal((2, weight[0].numel()), 1, name), normal((len(weight), 2), 2, name), 1.0)
        for name, weight in weights.items()
        if weight.ndim == 2
    }
    for dialect in ("kohya", "comfyui", "diffusers"):
        files += write_lora(tmp_path / f"{dialect}.safetensors", additions, family="sd35", dialect=dialect, **options)
    found = checked("--comfyui", comfyui, "--base", files[0], *files, python=python)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("every key is used") == len(files) == 5

    lora = load_file(tmp_path / "kohya.safetensors")
    key = next(key for key in lora if key.endswith("lora_up.weight"))
    save_file(
        {name.replace(key, "lora_unet_nobody.lora_up.weight"): tensor for name, tensor in lora.items()},
        tmp_path / "odd.safetensors",
    )
    found = checked("--comfyui", comfyui, "--base", files[0], tmp_path / "odd.safetensors", python=python)
    assert found.returncode == 1
    assert "no layer takes lora_unet_nobody.lora_up.weight" in found.stdout
