"""The doctor looks over real files of both families, small ones that were written here."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from animeflow.app.doctor import base, models
from animeflow.app.doctor.finding import ERROR, OK, WARNING
from animeflow.app.doctor.presets import presets
from animeflow.app.wiring import family
from animeflow.model import registry


@pytest.fixture(scope="module", params=registry.names())
def layouts(request, tmp_path_factory):
    """A tiny model of each family: its diffusers folder, and a file of the backbone alone."""
    node = {"family": request.param, "flavour": "tiny", "weights": None}
    fam = family({"model": node, "seed": 0})
    state = fam.backbone().export_state()
    folder, alone = tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("alone")
    fam.layouts()["diffusers"].write(state, folder, dtype=torch.bfloat16, metadata={})
    file = fam.layouts()["diffusion_only"].write(state, alone, dtype=torch.float16, metadata={})[0]
    return request.param, folder, file


def test_a_folder_brings_all_its_parts(layouts) -> None:
    name, folder, _ = layouts
    told, *parts = base.look(folder)
    assert told.level == OK
    assert f"{name}/tiny" in told.what and "bf16" in told.what
    assert [part.level for part in parts] == [OK] * len(parts) and len(parts) >= 2
    assert all(part.what == "comes with it" for part in parts)


def test_a_file_alone_lacks_them(layouts) -> None:
    name, _, file = layouts
    told, *parts = base.look(file)
    assert told.level == OK and f"{name}/tiny" in told.what and "f16" in told.what
    assert WARNING in {part.level for part in parts}
    assert all(part.do for part in parts if part.level == WARNING)


def test_a_half_copied_file_is_an_error(layouts, tmp_path) -> None:
    half = tmp_path / "half.safetensors"
    whole = layouts[2].read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    (told,) = base.look(half)
    assert told.level == ERROR and "half.safetensors" in told.what


def test_a_lora_is_no_base(tmp_path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"lora_unet_blocks_0_self_attn_q_proj.lora_down.weight": torch.zeros(4, 8)}, file)
    (told,) = base.look(file)
    assert told.level == ERROR and "a LoRA" in told.what
    (told,) = base.look(tmp_path)  # a folder with nothing but that
    assert told.level == ERROR


def test_a_preset_is_there_missing_or_of_another_size(layouts, tmp_path) -> None:
    name, folder, _ = layouts
    small = next(node for node in presets().values() if node["family"] == name and node.get("weights") is None)
    large = next(node for node in presets().values() if node["family"] == name and node.get("weights") is not None)
    nothing = dict.fromkeys(("codec", "text", "tokenizers") & large.keys())
    (there,) = models.preset("small", {**small, "weights": str(folder), **nothing}, needed=True)
    assert there.level == OK
    (wrong,) = models.preset("large", {**large, "weights": str(folder), **nothing}, needed=True)
    assert wrong.level == ERROR  # tiny weights under a large name
    for needed, level in ((True, ERROR), (False, WARNING)):
        node = {**large, "weights": str(tmp_path / "not" / "there.safetensors")}
        (missing,) = models.preset("large", node, needed=needed)
        assert missing.level == level
        assert "there.safetensors, about " in missing.what and "GB" in missing.what


def test_findings_are_values() -> None:
    (told,) = base.look(base.Path("nowhere"))
    assert dataclasses.asdict(told)["level"] == ERROR
