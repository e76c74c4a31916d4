"""Prodigy against its published formulas, its estimate, what a bad step leaves, and what it refuses."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from additions import copies, give_gradients, learns, with_additions
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from animeflow.core.errors import ConfigError, MissingExtra
from animeflow.optim.prodigy import Prodigy

pytest.importorskip("prodigyopt")
BETA1, BETA2, EPS, DECAY, D0, D_COEF = 0.9, 0.99, 1e-8, 0.01, 1e-6, 3.0


class ByHand:
    """The algorithm of arXiv 2306.06101 in float64, with a denominator that knows no rate (safeguarded) or does.

    The factor 1 - sqrt(beta2) of both running sums is left out, since they are divided by each other.
    """

    def __init__(self, weights: dict[str, Tensor], *, safeguard: bool = True) -> None:
        self.start = {name: w.double() for name, w in weights.items()}
        self.x = {name: w.double().clone() for name, w in weights.items()}
        self.m, self.v, self.s = ({name: torch.zeros_like(w) for name, w in self.x.items()} for _ in range(3))
        self.d, self.r, self.k, self.safeguard = D0, 0.0, 0, safeguard

    def step(self, gradients: dict[str, Tensor], lr: float) -> None:
        correction = math.sqrt(1 - BETA2 ** (self.k + 1)) / (1 - BETA1 ** (self.k + 1))
        rate, beta3 = self.d * lr * correction, math.sqrt(BETA2)
        self.r *= beta3
        for name, g in gradients.items():
            g = g.double()
            self.r += self.d / D0 * rate * (g * (self.start[name] - self.x[name])).sum().item()
            self.m[name] = BETA1 * self.m[name] + (1 - BETA1) * self.d * g
            self.v[name] = BETA2 * self.v[name] + (1 - BETA2) * self.d**2 * g * g
            self.s[name] = beta3 * self.s[name] + self.d / D0 * (self.d if self.safeguard else rate) * g
        d_hat = D_COEF * self.r / sum(s.abs().sum().item() for s in self.s.values())
        d = self.d
        self.best = max(getattr(self, "best", D0), d_hat)
        self.d = max(d, d_hat) if d == D0 else self.best
        for name, x in self.x.items():
            x *= 1 - DECAY * rate
            x -= rate * self.m[name] / (self.v[name].sqrt() + self.d * EPS)
        self.k += 1


def pulled(net: nn.Module, step: int) -> None:
    """Gradients that mostly point the same way, so that there is a distance to go."""
    give_gradients(net, step, scale=0.3)
    for i, p in enumerate(learns(net).values()):
        p.grad += torch.sin(torch.arange(p.numel()) + i).view(p.shape)


def train(net: nn.Module, steps: range, optimizer, lr=lambda step: 1.0) -> list[float]:
    found = []
    for step in steps:
        pulled(net, step)
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * lr(step)
        optimizer.step()
        found.append(optimizer.param_groups[0]["d"])
    return found


def warm(step: int) -> float:
    return min(1.0, (step + 1) / 20)


@pytest.mark.parametrize("safeguard", [True, False])
@pytest.mark.parametrize("schedule", [lambda step: 1.0, warm])
def test_it_is_the_published_formulas(safeguard, schedule) -> None:
    net = with_additions().double()  # so that nothing but the formulas can differ
    for p in learns(net).values():
        nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(1))
    reference = ByHand(copies(net), safeguard=safeguard)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("animeflow.optim.prodigy.require_float32", lambda module: None)
        optimizer = Prodigy(safeguard_warmup=safeguard, weight_decay=DECAY).build(net)
    for step in range(30):
        train(net, range(step, step + 1), optimizer, schedule)
        reference.step({name: p.grad for name, p in learns(net).items()}, schedule(step))
        assert optimizer.param_groups[0]["d"] == pytest.approx(reference.d, rel=1e-10)
    for name, p in learns(net).items():
        torch.testing.assert_close(p.detach(), reference.x[name], rtol=1e-10, atol=1e-12)
    assert reference.d > 100 * D0, "the estimate was at work"


def test_the_estimate_grows_and_never_shrinks() -> None:
    net = with_additions()
    found = train(net, range(60), Prodigy().build(net))
    assert all(after >= before for before, after in zip([D0, *found], found, strict=False))
    assert found[-1] > 100 * found[0]


def test_a_warm_up_inflates_the_estimate_unless_it_is_safeguarded() -> None:
    ends = {}
    for safeguard in (True, False):
        for name, schedule in (("at once", lambda step: 1.0), ("warm", lambda step: min(1.0, (step + 1) / 200))):
            net = with_additions()
            found = train(net, range(40), Prodigy(safeguard_warmup=safeguard).build(net), schedule)
            ends[safeguard, name] = found[-1]
    assert ends[True, "warm"] <= ends[True, "at once"]
    assert ends[False, "warm"] > 3 * ends[True, "warm"]


@pytest.mark.parametrize("at", [0, 3])
def test_a_step_that_is_left_out_leaves_no_trace(at) -> None:
    """A run with a bad step in it is the run without it, to the bit."""
    calm, troubled = with_additions(), with_additions()
    one, other = Prodigy().build(calm), Prodigy().build(troubled)
    train(calm, range(6), one)
    for step in range(6):
        if step == at:
            pulled(troubled, 99)
            for p in learns(troubled).values():
                p.grad.mul_(float("nan"))
            other.found_inf = torch.tensor(1.0)
            other.step()
            other.found_inf = torch.tensor(0.0)
        train(troubled, range(step, step + 1), other)
    for p, q in zip(learns(calm).values(), learns(troubled).values(), strict=True):
        assert torch.equal(p, q)
        assert one.state[p].keys() == other.state[q].keys()
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(other.state[q][k])) for k, v in one.state[p].items())
    for ours, theirs in zip(one.param_groups, other.param_groups, strict=True):
        assert {k: v for k, v in ours.items() if k != "params"} == {k: v for k, v in theirs.items() if k != "params"}


def test_what_is_logged_is_the_rate_in_effect() -> None:
    net, kind = with_additions(), Prodigy()
    optimizer = kind.build(net)
    assert kind.values(optimizer) == {"optim/d": 1e-6, "optim/d_lr": 1e-6}
    before = {}
    for step in range(40):
        before = copies(net)
        train(net, range(step, step + 1), optimizer, warm)
    values = kind.values(optimizer)
    assert values["optim/d_lr"] == values["optim/d"] * optimizer.param_groups[0]["lr"] > 1e-5
    train(net, range(40, 41), optimizer, lambda step: 0.25)
    assert kind.values(optimizer)["optim/d_lr"] == kind.values(optimizer)["optim/d"] / 4
    assert any(not torch.equal(p, before[name]) for name, p in learns(net).items())


def test_it_says_nothing_on_its_own(capsys) -> None:
    Prodigy().build(with_additions())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"rates": {"attn": 0.5}}, "optim.rates"),
        ({"lora_plus": 4.0}, "optim.lora_plus"),
        ({"lr": 0}, "optim.lr"),
        ({"d_coef": 0}, "optim.d_coef"),
        ({"d0": -1e-6}, "optim.d0"),
        ({"betas": (0.9, 1.0)}, "optim.betas"),
        ({"weight_decay": -1}, "optim.weight_decay"),
    ],
)
def test_settings_that_it_cannot_have_are_refused_by_name(options, where) -> None:
    with pytest.raises(ConfigError) as caught:
        Prodigy(**options)
    assert caught.value.where == where and caught.value.do


def test_a_sharded_learner_is_refused(tmp_path) -> None:
    net = with_additions()
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(str(tmp_path / "s"), 1), rank=0, world_size=1
    )
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(net.attn.lora_A["animeflow"], mesh=init_device_mesh("cpu", (1,)))
        assert any(isinstance(p, DTensor) for p in net.parameters())
        with pytest.raises(ConfigError, match="prodigy cannot train a learner that is sharded"):
            Prodigy().build(net)
    finally:
        torch.distributed.destroy_process_group()


def test_a_missing_package_is_told(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(MissingExtra, match=r"animeflow\[prodigy\]"):
        Prodigy().build(with_additions())
