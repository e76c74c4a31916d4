"""Two LoRAs of one base at once: each key of both is used, and they add up; each alone is another network."""

from __future__ import annotations

import torch
from contract import random_lora
from test_model_lora_diffusers import added_to, family, networks, outputs, pipeline_of, small, torchvisions_resize

from animeflow.learn.files import write_lora
from animeflow.model.low_rank import LowRankState

__all__ = ["family", "torchvisions_resize"]  # fixtures


def summed(weights, *parts: tuple[LowRankState, float]) -> dict[str, torch.Tensor]:
    found = dict(weights)
    for state, weight in parts:
        for name, addition in state.items():
            key = f"{name}.weight"
            found[key] = (found[key].double() + weight * addition.delta().reshape(found[key].shape)).float()
    return found


def test_two_add_up_by_their_weights(family, tmp_path):
    one, two = (small(random_lora(family, root=root)) for root in (1, 2))
    base = family.backbone().export_state()
    found = networks(family, base)
    pipe = pipeline_of(family, found)
    for name, state in (("one", one), ("two", two)):
        write_lora(tmp_path / f"{name}.safetensors", state, family=family.name, dialect="diffusers",
                   dtype=torch.float32, metadata={})  # fmt: skip
        pipe.load_lora_weights(str(tmp_path), weight_name=f"{name}.safetensors", adapter_name=name)
        assert added_to(found) == state.keys()
    seen = {}
    for weights in ((1.0, 0.0), (0.0, 1.0), (1.0, 0.5)):
        pipe.set_adapters(["one", "two"], adapter_weights=list(weights))
        seen[weights] = outputs(family, found)
        expected = outputs(family, networks(family, summed(base, (one, weights[0]), (two, weights[1]))))
        for theirs, ours in zip(seen[weights], expected, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5 * float(ours.abs().max()))
    first, second, both = (seen[weights][-1] for weights in seen)
    assert min((first - second).norm(), (first - both).norm()) > 0.01 * first.norm()
