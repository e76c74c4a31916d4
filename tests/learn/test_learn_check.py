"""The audit finds what was broken on purpose, and nothing in a file that is sound; every family, every dialect."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from animeflow.learn.check import EXACT, audit, compare, report
from animeflow.learn.file_audit import audit_tensors
from animeflow.learn.finding import ERROR, OK, WARNING
from animeflow.model import registry
from animeflow.model.low_rank import LowRank


@pytest.fixture(scope="module", params=registry.names())
def family(request):
    return registry.constructor(request.param)("tiny")


@pytest.fixture(scope="module")
def shapes(family) -> dict[str, tuple[int, ...]]:
    outline = family.outline()
    weights = outline.export_state()
    return {name: tuple(weights[f"{name}.weight"].shape) for name in family.lora_layers(outline)}


@pytest.fixture
def state(shapes) -> dict[str, LowRank]:
    draw = torch.Generator().manual_seed(0)
    return {
        name: LowRank(0.1 * torch.randn(4, *shape[1:], generator=draw),
                      0.1 * torch.randn(shape[0], 4, *([1] * (len(shape) - 2)), generator=draw), 4.0)
        for name, shape in shapes.items()
        if "blocks." in name
    }  # fmt: skip


def findings(state, family, **options) -> dict[str, object]:
    found = audit(state, dialects=family.dialects(), dialect="kohya", **options)
    return {each.name: each for each in found.findings} | {"": found}


def test_a_sound_file_has_nothing_but_ok(state, family, shapes):
    tensors = family.dialects()["kohya"].write(state)
    found = findings(state, family, shapes=shapes, tensors=tensors)
    assert {each.level for name, each in found.items() if name} == {OK}
    assert found[""].sound
    names = {f"as {name}" for name in family.dialects()}
    assert names <= set(found)
    told = report(found[""], file="x")
    assert told["sound"] and told["file"] == "x" and len(told["layers"]) == len(state)


def test_a_broken_number_is_found_with_its_layer(state, family):
    name = list(state)[2]
    bad = state[name].up.clone()
    bad[0, 0] = float("nan")
    found = findings(state | {name: replace(state[name], up=bad)}, family)
    assert found["numbers"].level == ERROR and name in found["numbers"].what
    assert not found[""].sound and name not in found[""].layers


def test_layers_that_the_base_lacks_or_has_in_other_shapes(state, family, shapes):
    name, other = list(state)[:2]
    few = {key: value for key, value in shapes.items() if key != name}
    assert name in findings(state, family, shapes=few)["base"].what
    wide = shapes | {other: (shapes[other][0] + 1, *shapes[other][1:])}
    found = findings(state, family, shapes=wide)["base"]
    assert found.level == ERROR and other in found.what and "1 of another shape" in found.what


def test_a_dialect_that_changes_delta_w_is_told(state, family):
    class Wrong:
        name, readers, place, example = "wrong", ("nobody",), "", ""

        def unread(self, names):
            return {}

        def readers_of(self, state):
            return self.readers

        def write(self, state):
            self.state = state
            return {}

        def read(self, tensors):
            name = next(iter(self.state))
            return self.state | {name: replace(self.state[name], alpha=self.state[name].alpha * (1 + 3 * EXACT))}

    found = audit(state, dialects={"wrong": Wrong()}, dialect="wrong").findings[-1]
    assert found.level == ERROR and "apart" in found.what


def test_scales_are_told_as_programs_apply_them(state, family):
    low = {name: replace(each, alpha=0.125) for name, each in state.items()}
    found = findings(low, family)["scale"]
    assert found.level == WARNING and "0.03125" in found.what and "0.03125" in found.why and "kohya" in found.why
    assert findings(state, family)["scale"].what == f"rank 4 alpha 4 (scale 1): {len(state)} layers"


def test_nothing_learned(state, family):
    zero = {name: replace(each, up=torch.zeros_like(each.up)) for name, each in state.items()}
    assert findings(zero, family)["delta W"].level == ERROR
    name = next(iter(state))
    found = findings(state | {name: zero[name]}, family)
    assert found["delta W"].level == WARNING and name in found["delta W"].what
    assert found[""].sound, "programs load it"


def test_a_layer_that_nothing_reads_is_expected_to_be_zero(state, family, shapes):
    unread = family.dialects()["kohya"].unread(shapes)
    assert all(name in shapes for name in unread)
    quiet = {name: replace(each, up=torch.zeros_like(each.up)) for name, each in state.items() if name in unread}
    found = findings(state | quiet, family)["delta W"]
    assert found.level == OK and all(name in found.what for name in unread)
    for name in unread:  # in an earlier block the same layer is read
        other = next(each for each in state if each.split(".")[-1] == name.split(".")[-1] and each != name)
        zero = replace(state[other], up=torch.zeros_like(state[other].up))
        assert findings(state | quiet | {other: zero}, family)["delta W"].level == WARNING


@pytest.mark.parametrize("times", [1.0, 100.0])
def test_a_small_base_that_learned_fast_has_not_blown_up(state, family, shapes, times):
    """Once |W| in every layer is healthy there; a hundred times that is caught, in all layers as in one."""
    weights = {f"{name}.weight": state[name].delta().reshape(shape) if name in state else torch.ones(shape)
               for name, shape in shapes.items()}  # fmt: skip
    every = {name: replace(each, alpha=times * each.alpha) for name, each in state.items()}
    level, name = OK if times == 1.0 else WARNING, next(iter(state))
    assert findings(every, family, weights=weights)["beside W"].level == level
    found = findings(state | {name: every[name]}, family, weights=weights)["beside W"]
    assert found.level == level and (level == OK or name in found.what)


def test_dora_says_who_reads_it(state, family):
    dora = {name: replace(each, magnitude=torch.rand(each.up.shape[0]) + 1) for name, each in state.items()}
    found = findings(dora, family)["DoRA"]
    assert found.level == WARNING and "read by ComfyUI;" in found.why and "|W + delta W|" in found.why
    for name, dialect in family.dialects().items():
        found = audit(dora, dialects=family.dialects(), dialect=name)
        by_name = {each.name: each for each in found.findings}
        assert f"read by {', '.join(dialect.readers_of(dora))};" in by_name["DoRA"].why
        assert "sd-scripts" not in by_name[f"as {name}"].what and dialect.readers_of(state) == dialect.readers


def test_alpha_that_split_qkv_left_behind(state, family):
    """Only where the dialect joins layers: three blocks on the diagonal with a third of the others' scale."""
    tensors = family.dialects()["kohya"].write(state)
    joined = [name for name in tensors if "qkv" in name and name.endswith(".alpha")]
    if not joined:
        return
    names = {each.name: each.level for each in audit_tensors(tensors)}
    assert names["joined layers"] == OK
    trap = tensors | {name: tensors[name] / 3 for name in joined}
    found = {each.name: each for each in audit_tensors(trap)}["joined layers"]
    assert found.level == WARNING and f"{len(joined)} layers" in found.what


def test_dtypes_and_text_encoders_of_a_file(state, family):
    tensors = family.dialects()["kohya"].write(state)
    half = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    assert {each.name: each for each in audit_tensors(half)}["dtype"].level == OK
    mixed = half | {next(iter(half)): next(iter(half.values())).float()}
    assert {each.name: each for each in audit_tensors(mixed)}["dtype"].level == WARNING
    text = tensors | {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.zeros(4, 8)}
    assert {each.name: each for each in audit_tensors(text)}["text encoders"].level == WARNING


def test_compare_is_the_largest_share():
    one = LowRank(torch.randn(2, 5), torch.randn(4, 2), 2.0)
    zero = LowRank(torch.randn(2, 5), torch.zeros(4, 2), 2.0)
    assert compare({"a": one, "b": zero}, {"a": replace(one, alpha=2.0 * 1.01)}) == pytest.approx(0.01, rel=1e-6)
    assert compare({"a": one}, {}) == float("inf") == compare({}, {"a": one})
    assert compare({"a": one}, {"a": replace(one, magnitude=torch.ones(4))}) == float("inf")
    lengths = replace(one, magnitude=torch.ones(4))
    assert compare({"a": lengths}, {"a": replace(lengths, magnitude=torch.ones(4) * 1.5)}) == pytest.approx(0.5)
