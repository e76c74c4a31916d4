"""What a plan counts for a LoRA is what lies in memory when one is trained: kind by kind, byte by byte."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from animeflow.app import memory
from animeflow.app.compose import compose
from animeflow.app.jobs import family_without_files
from animeflow.app.learner import add
from animeflow.app.machines import read_machines
from animeflow.app.outlook import outlook
from animeflow.app.wiring import bucket_plan, optim, train_settings

BASES = ("fp32", "bf16", "int8", "nf4")
MODELS = {"sd35_tiny": (), "anima_tiny": ("model.adapter=freeze",)}


def config_of(
    *overrides: str, model: str = "sd35_tiny", base: str = "bf16", kind: str = "adamw_lora"
) -> dict[str, Any]:
    return compose(
        [f"model={model}", "data=toonworld", "learn=lora", "learn.rank=4", f"learn.base_dtype={base}", f"optim={kind}",
         "train.precision=bf16", *MODELS[model], *overrides]
    )  # fmt: skip


def outline_of(config: dict[str, Any]):
    fam = family_without_files(config)
    outline = fam.outline()
    add(config, fam, outline)
    return fam, outline


def real(config: dict[str, Any]):
    fam = family_without_files(config)
    add(config, fam, fam.backbone())
    return fam.backbone()


def told(config: dict[str, Any], **changes: Any) -> dict[str, float]:
    fam, outline = outline_of(config)
    options = {"shards": 1, "micro_batch": 1, "optimizer": config["optim"]["kind"], "averages": 1, "low": True}
    nothing = memory.Activations(bucket_plan(config).buckets[0], picture=0, copies=0)
    kinds = memory.by_kind(
        memory.counted(fam, outline=outline), nothing, **{**options, "reserve_gib": 0.0, **changes}
    )  # fmt: skip
    return {name: size * memory.GIB for name, size in kinds.items()}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("model", MODELS)
def test_the_base_and_the_additions_have_the_bytes_of_a_real_network(model, base) -> None:
    config = config_of(model=model, base=base)
    network, kinds = real(config), told(config)
    learns = [p for p in network.parameters() if p.requires_grad]
    frozen = [*network.buffers(), *(p for p in network.parameters() if not p.requires_grad)]
    assert kinds["frozen base"] == sum(t.nbytes for t in frozen)
    assert kinds["additions, float32"] == kinds["gradients, float32"] == sum(p.nbytes for p in learns) > 0
    assert kinds["averages, 1"] == kinds["additions, float32"]


def test_fewer_bits_are_fewer_bytes_and_a_layer_is_made_whole_for_its_product() -> None:
    held = {base: told(config_of(base=base)) for base in BASES}
    sizes = [held[base]["frozen base"] for base in BASES]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[1] > sizes[2] > sizes[3]
    assert ["a layer made whole" in held[base] for base in BASES] == [False, False, True, True]


@pytest.mark.parametrize("kind", ["adamw_lora", "prodigy", "adamw8bit"])
def test_moments_have_the_bytes_of_a_real_optimizer(kind) -> None:
    package = {"prodigy": "prodigyopt", "adamw8bit": "bitsandbytes"}.get(kind, "torch")
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    config = config_of(kind=kind)
    config["learn"]["rank"] = 64  # so that tensors are as large as those of a real LoRA: more than 4096 numbers
    network = real(config)
    optimizer = optim(config)[0].build(network)
    learns = {p: name for name, p in network.named_parameters() if p.requires_grad}
    for p in learns:
        torch.nn.init.normal_(p)  # Prodigy does not keep where a tensor of zeros began
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert min(p.numel() for p in learns) >= 4096
    tables = ("step", "qmap1", "qmap2")  # the same for all tensors, or a number
    held = sum(v.nbytes for p in learns for k, v in optimizer.state[p].items() if k not in tables)
    assert told(config)["moments of the optimizer"] == pytest.approx(held, rel=2e-3)


def test_activations_of_a_lora_are_counted_with_the_additions_on() -> None:
    """An addition keeps its own copy of what goes in; weights that are bf16 already are not copied."""
    kept = {}
    for base in ("fp32", "bf16", "nf4"):
        config = config_of(base=base)
        fam, outline = outline_of(config)
        kept[base] = memory.activations(fam, bucket_plan(config).buckets, train_settings(config), outline=outline)
    assert kept["bf16"].copies < 0.7 * kept["fp32"].copies
    assert kept["nf4"].picture == pytest.approx(kept["bf16"].picture, rel=0.1)
    small = config_of("learn.targets=attention")
    fam, outline = outline_of(small)
    fewer = memory.activations(fam, bucket_plan(small).buckets, train_settings(small), outline=outline)
    assert fewer.picture < kept["bf16"].picture


def test_a_plan_answers_for_the_cards_of_homes() -> None:
    config = config_of("train.device=auto", "train.processes=1")
    sections = outlook(config, family_without_files(config))
    rows = sections["memory of one process, estimated"]
    for name, gpu in read_machines().gpus.items():
        assert rows[f"{name}, {gpu.memory_gib:g} GiB"].strip() == "fits"
    assert "frozen base" in rows and "additions, float32" in rows
    assert {f"1 x {name}" for name in read_machines().gpus} <= set(
        next(v for k, v in sections["time and money, estimated"].items() if k.startswith("at 45"))
    )


def test_they_are_left_out_where_several_train_together() -> None:
    config = compose(
        ["experiment=toonworld_smoke", "train.device=auto", "train.processes=2", "data.loader.micro_batch=2"]
    )
    rows = outlook(config, family_without_files(config))["memory of one process, estimated"]
    assert any(row.startswith("H100") for row in rows) and not any(row.startswith("RTX") for row in rows)


def test_a_lora_spares_the_gradients_of_frozen_weights() -> None:
    fam = family_without_files(config_of())
    work = fam.work(height=96, width=96, text_tokens=20)
    attention = sum(call.flops for call in work.attention)
    assert work.train_over_base == 2 * work.linear + 3 * attention < work.train
