"""The closed form of the arithmetic against what torch counts on the real networks, at full size and without memory."""

from __future__ import annotations

import pytest
from counted import counted, really_counted
from diffusers import AnimaTextConditioner, CosmosTransformer3DModel, SD3Transformer2DModel

from animeflow.model.anima.backbone import Backbone as AnimaBackbone
from animeflow.model.anima.family import Anima
from animeflow.model.sd35.backbone import Backbone as SD35Backbone
from animeflow.model.sd35.family import SD35
from animeflow.model.work import AttentionCall, Work

SIZES = [(1024, 1024), (1216, 832), (640, 1536)]


def build_sd35(family: SD35) -> SD35Backbone:
    return SD35Backbone(SD3Transformer2DModel(**family.shape.config()))


def build_anima(family: Anima) -> AnimaBackbone:
    net = CosmosTransformer3DModel(**family.shape.transformer_config())
    backbone = AnimaBackbone(net, AnimaTextConditioner(**family.shape.conditioner_config()))
    backbone.adapter_mode(family.adapter, rank=family.adapter_rank, alpha=1.0, seed=0)
    return backbone


def compare(family, build, sizes, *, tokens: int) -> None:
    real = counted(family, lambda: build(family), sizes, tokens=tokens)
    for (height, width), (forward, both) in zip(sizes, real, strict=True):
        work = family.work(height=height, width=width, text_tokens=tokens)
        assert work.forward == pytest.approx(forward, rel=1e-5)
        assert work.train == pytest.approx(both, rel=1e-5)


@pytest.mark.parametrize(
    ("family", "build", "sizes", "tokens"),
    [
        (SD35("medium"), build_sd35, SIZES, 333),
        (SD35("large"), build_sd35, SIZES[1:2], 154),
        (SD35("tiny"), build_sd35, [(96, 112)], 80),
        (SD35("tiny", dual_attention_layers=()), build_sd35, [(96, 112)], 80),
        (Anima("base", adapter="freeze"), build_anima, SIZES, 512),
        (Anima("base", adapter="train"), build_anima, SIZES[1:2], 300),
    ],
    ids=["medium", "large", "tiny", "tiny, nothing dual", "base, adapter frozen", "base, adapter learns"],
)
def test_the_closed_form_is_what_torch_counts(family, build, sizes, tokens):
    compare(family, build, sizes, tokens=tokens)


@pytest.mark.parametrize("adapter", ["freeze", "train", "lora"])
@pytest.mark.parametrize("tokens", [40, 100], ids=["below the floor", "above it"])
def test_what_of_the_adapter_learns_is_counted(adapter, tokens):
    family = Anima("tiny", adapter=adapter)
    work = family.work(height=96, width=112, text_tokens=tokens)
    forward, both = really_counted(family, 96, 112, tokens=tokens)
    assert work.forward == pytest.approx(forward, rel=1e-4)
    assert work.train == pytest.approx(both, rel=1e-4)


def test_a_prompt_is_as_long_as_released_pipelines_make_it():
    assert SD35("medium").text_tokens == SD35("medium", t5_pad_policy="comfy").text_tokens == 333
    assert SD35("medium", t5_length=77).text_tokens == 154
    assert SD35("medium", with_t5=False, t5_pad_policy="comfy").text_tokens == 77
    assert Anima("base").text_tokens == 512
    for family in (SD35("tiny"), Anima("tiny")):
        _, text = family.random_inputs(2, height=96, width=96, tokens=family.text_tokens)
        real = family.text_tower().collate(family.text_tower().encode(["a girl", "1girl, blue hair"]))
        assert text.keys() == real.keys()
        assert all(text[name].shape[2:] == real[name].shape[2:] for name in text)


def test_published_figures_per_megapixel():
    """TFLOP of both passes at 333 and 512 tokens: what a share of a chip is told by."""
    medium = SD35("medium").work(height=1024, width=1024, text_tokens=333)
    assert (round(medium.linear / 1e12, 3), round(medium.forward / 1e12, 3)) == (7.017, 11.250)
    assert round(medium.train / 1e12, 2) == 33.74
    base = Anima("base").work(height=1024, width=1024, text_tokens=512)
    assert (round(base.forward / 1e12, 2), round(base.train / 1e12, 2)) == (18.04, 53.76)


def test_large_has_its_published_size():
    (backbone, *_) = SD35("large", random_weights=True).sizes()
    assert (backbone.name, round(backbone.parameters / 1e9, 3)) == ("backbone", 8.057)


def test_attention_is_two_products_and_the_backward_pass_two_for_each():
    call = AttentionCall(heads=2, head_dim=8, queries=5, keys=7, layers=3)
    assert call.flops == 3 * 2 * (2 * 5 * 7 * 8 + 2 * 5 * 7 * 8)
    work = Work(linear=100.0, attention=(call,), spared=40.0)
    assert work.forward == 100 + call.flops
    assert work.train == 3 * work.forward - 40
