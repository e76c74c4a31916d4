"""AdamW with 8-bit moments: how near torch's it is, which tensors keep 32 bits, what a bad step leaves, what it refuses."""

from __future__ import annotations

import sys

import pytest
import torch
from additions import copies, give_gradients, learns, with_additions
from torch import nn

from animeflow.core.errors import ConfigError, MissingExtra
from animeflow.optim.adamw import AdamW
from animeflow.optim.adamw8bit import AdamW8bit

installed = pytest.mark.skipif(
    __import__("importlib").util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


class Two(nn.Module):
    """One tensor that is large enough for 8 bits, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.large, self.small = nn.Linear(64, 64, bias=False), nn.Linear(8, 8, bias=False)


def trained(kind, steps: range, net: nn.Module | None = None, optimizer=None):
    net = net or Two()
    optimizer = optimizer or kind.build(net)
    for step in steps:
        give_gradients(net, step)
        optimizer.step()
    return net, optimizer


@installed
def test_small_tensors_step_as_torchs_and_large_ones_within_their_rounding() -> None:
    options = {"lr": 1e-3, "weight_decay": 0.1}
    (ours, optimizer), (theirs, _) = (trained(make(**options), range(20)) for make in (AdamW8bit, AdamW))
    start = Two()
    torch.testing.assert_close(ours.small.weight, theirs.small.weight, rtol=1e-5, atol=1e-6)
    moved = (theirs.large.weight - start.large.weight).norm()
    assert 0 < (ours.large.weight - theirs.large.weight).norm() < 0.05 * moved
    state = {name: optimizer.state[p] for name, p in ours.named_parameters()}
    assert state["large.weight"]["state1"].dtype == state["large.weight"]["state2"].dtype == torch.uint8
    assert state["small.weight"]["state1"].dtype == torch.float32


@installed
def test_the_rates_of_groups_are_kept() -> None:
    net = with_additions()
    before = copies(net)
    optimizer = AdamW8bit(lr=1e-3, weight_decay=0.0, rates={"mlp": 1e-4}, lora_plus=4.0).build(net)
    give_gradients(net, 0)
    optimizer.step()
    for name, p in learns(net).items():
        expected = (1e-4 if name.startswith("mlp") else 1e-3) * (4 if "lora_B" in name else 1)
        assert (p.detach() - before[name]).abs().mean().item() == pytest.approx(expected, rel=1e-2), name


@installed
@pytest.mark.parametrize("at", [0, 2])
def test_a_step_that_is_left_out_leaves_no_trace(at) -> None:
    calm, one = trained(AdamW8bit(), range(5))
    troubled = Two()
    other = AdamW8bit().build(troubled)
    for step in range(5):
        if step == at:
            for p in troubled.parameters():
                p.grad = torch.full_like(p, float("nan"))
            other.found_inf = torch.tensor(1.0)
            other.step()
            other.found_inf = torch.tensor(0.0)
        trained(None, range(step, step + 1), troubled, other)
    for p, q in zip(calm.parameters(), troubled.parameters(), strict=True):
        assert torch.equal(p, q)
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(other.state[q][k])) for k, v in one.state[p].items())


def test_a_missing_package_is_told(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(MissingExtra, match=r"animeflow\[lowbit\]"):
        AdamW8bit().build(Two())


@installed
def test_bf16_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="not float32"):
        AdamW8bit().build(Two().bfloat16())


@pytest.mark.parametrize(
    ("options", "where"),
    [({"lr": 0}, "optim.lr"), ({"lora_plus": 0}, "optim.lora_plus"), ({"betas": (0.9,)}, "optim.betas")],
)
def test_settings_are_checked_before_the_package_is_asked_for(options, where) -> None:
    with pytest.raises(ConfigError) as caught:
        AdamW8bit(**options)
    assert caught.value.where == where
