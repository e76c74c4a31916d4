"""Muon's step against the formula by hand and against torch's own, what it is applied to, and that a bad step leaves no trace."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from animeflow.core.errors import ConfigError
from animeflow.model import registry
from animeflow.optim.adamw import AdamW
from animeflow.optim.muon import Muon, hidden_matrices, orthogonal

LR, DECAY = 1e-2, 0.1


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.ModuleDict({"linear": nn.Linear(4, 8)})
        self.attn = nn.Linear(6, 6)
        self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 6)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale = self.norm1["linear"](c)[:, :6]
        return x + self.down(torch.tanh(self.up(self.attn(x * (1 + scale)))))


class Learner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed, self.net, self.out = nn.Linear(4, 6), nn.ModuleList([Block(), Block()]), nn.Linear(6, 3)

    def blocks(self) -> list[nn.Module]:
        return list(self.net)

    def forward(self, c: Tensor) -> Tensor:
        x = self.embed(c)
        for block in self.net:
            x = block(x, c)
        return self.out(x)


HIDDEN = {f"net.{i}.{layer}.weight" for i in (0, 1) for layer in ("attn", "up", "down")}


def give_gradients(module: nn.Module, step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    for p in module.parameters():
        p.grad = torch.randn(p.shape, generator=draw)


def by_hand(G: Tensor) -> Tensor:
    """Newton-Schulz in float64, written out: X <- aX + b(XX')X + c(XX')^2 X."""
    X = G.double() / G.double().norm()
    for _ in range(5):
        XXt = X @ X.T
        X = 3.4445 * X - 4.7750 * XXt @ X + 2.0315 * XXt @ XXt @ X
    return X


@pytest.mark.parametrize("shape", [(5, 5), (4, 12), (12, 4), (1, 7)])
def test_newton_schulz_is_the_formula_and_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    G = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(orthogonal(G).double(), by_hand(G), rtol=1e-3, atol=1e-4)
    S = torch.linalg.svdvals(orthogonal(G))
    assert S.min() > 0.6 and S.max() < 1.3
    # The singular vectors stay what they were.
    left, _, right = torch.linalg.svd(G, full_matrices=False)
    assert torch.allclose((left.T @ orthogonal(G) @ right.T).diagonal().sum(), S.sum(), rtol=1e-3)
    assert not orthogonal(torch.zeros(shape)).any(), "a matrix without a gradient does not move"


def test_two_steps_are_the_formula_by_hand() -> None:
    learner = Learner()
    optimizer = Muon(lr=LR, weight_decay=DECAY).build(learner)
    names = {p: name for name, p in learner.named_parameters()}
    weights = {name: p.detach().double().clone() for name, p in learner.named_parameters() if name in HIDDEN}
    momenta = {name: torch.zeros_like(w) for name, w in weights.items()}
    for step in range(2):
        give_gradients(learner, step)
        optimizer.step()
        for p, name in names.items():
            if name in HIDDEN:
                g = p.grad.double()
                momenta[name] = 0.95 * momenta[name] + 0.05 * g
                move = by_hand(0.05 * g + 0.95 * momenta[name])
                weights[name] = weights[name] * (1 - LR * DECAY) - LR * 0.2 * max(g.shape) ** 0.5 * move
                torch.testing.assert_close(p.detach().double(), weights[name], rtol=1e-3, atol=1e-5)


def test_a_run_of_steps_is_torchs_own_muon_within_its_bf16_and_its_adamw_to_the_bit() -> None:
    ours, theirs = Learner(), Learner()
    one = Muon(lr=LR, weight_decay=DECAY).build(ours)
    hidden = hidden_matrices(theirs)
    rest = [p for p in theirs.parameters() if not any(p is h for h in hidden)]
    muon = torch.optim.Muon(hidden, lr=LR, weight_decay=DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    matrices, vectors = [p for p in rest if p.ndim > 1], [p for p in rest if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.99), fused=True)
    before = {name: p.detach().clone() for name, p in ours.named_parameters()}
    for step in range(4):
        for learner in (ours, theirs):
            give_gradients(learner, step)
        one.step(), muon.step(), adamw.step()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if name in HIDDEN:
            moved = (q - before[name]).norm()
            assert (p - q).norm() < 0.05 * moved, name
        else:
            assert torch.equal(p, q), name


def test_the_step_has_the_size_of_adamws() -> None:
    """Root mean square 0.2 per entry, so that AdamW's learning rate carries over."""
    learner = nn.Module()
    learner.block = nn.Linear(64, 256, bias=False)
    learner.blocks = lambda: [learner.block]
    before = learner.block.weight.detach().clone()
    optimizer = Muon(lr=1.0, weight_decay=0.0).build(learner)
    give_gradients(learner, 0)
    optimizer.step()
    assert (learner.block.weight - before).square().mean().sqrt().item() == pytest.approx(0.2, rel=0.15)


def test_which_weights_are_hidden_matrices() -> None:
    learner = Learner()
    names = {id(p): name for name, p in learner.named_parameters()}
    assert {names[id(p)] for p in hidden_matrices(learner)} == HIDDEN
    learner.net[0].attn.requires_grad_(False)
    assert {names[id(p)] for p in hidden_matrices(learner)} == HIDDEN - {"net.0.attn.weight"}
    optimizer = Muon(lr=LR).build(learner)
    grouped = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(name for name, p in learner.named_parameters() if p.requires_grad)
    hidden = {names[id(p)] for group in optimizer.param_groups if group["hidden"] for p in group["params"]}
    assert hidden == HIDDEN - {"net.0.attn.weight"}


@pytest.mark.parametrize("family", [name for name in registry.names() if name != "toy"])
def test_of_every_family_all_matrices_of_attention_and_mlp_and_nothing_else_are_hidden(family: str) -> None:
    backbone = registry.constructor(family)(flavour="tiny", seed=0).backbone()
    hidden = {id(p) for p in hidden_matrices(backbone)}
    inside = {id(p) for block in backbone.blocks() for p in block.parameters()}
    for name, p in backbone.named_parameters():
        parts = name.split(".")
        work = any(part.startswith(("attn", "ff")) for part in parts) and p.ndim == 2 and id(p) in inside
        assert (id(p) in hidden) == (work and not any(part.startswith("norm") for part in parts)), name
    assert len(hidden) >= 6 * len(backbone.blocks())


def test_rates_of_parts_hold_for_both_halves_and_the_schedule_moves_both() -> None:
    learner = Learner()
    optimizer = Muon(lr=LR, weight_decay=0.0, rates={"net.1": LR / 10}).build(learner)
    found = {(group["part"], group["hidden"]): group["peak_lr"] for group in optimizer.param_groups}
    assert found == {("", True): LR, ("", False): LR, ("net.1", True): LR / 10, ("net.1", False): LR / 10}
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(learner.state_dict())
    give_gradients(learner, 0)
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_a_step_with_a_gradient_that_is_no_number_leaves_no_trace(kind) -> None:
    skipping, never = Learner(), Learner()
    one, two = kind(lr=LR, weight_decay=DECAY).build(skipping), kind(lr=LR, weight_decay=DECAY).build(never)
    for step, bad in enumerate([False, True, False]):
        give_gradients(skipping, step)
        one.found_inf = torch.tensor(float(bad))
        if bad:
            for p in skipping.parameters():
                p.grad.view(-1)[0] = float("nan")
        one.step()
        if not bad:
            give_gradients(never, step)
            two.found_inf = torch.tensor(0.0)
            two.step()
    for (name, p), q in zip(skipping.named_parameters(), never.parameters(), strict=True):
        assert torch.equal(p, q), name
        assert all(torch.equal(v, two.state[q][k]) for k, v in one.state[p].items()), name


def test_a_bad_first_step_leaves_no_trace_either() -> None:
    learner = Learner()
    before = copy.deepcopy(learner.state_dict())
    optimizer = Muon(lr=LR, weight_decay=DECAY).build(learner)
    give_gradients(learner, 0)
    for p in learner.parameters():
        p.grad.fill_(float("inf"))
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


def test_a_state_that_is_carried_over_by_names_goes_on_as_if_never_stopped() -> None:
    straight, stopped = Learner(), Learner()
    one, two = Muon(lr=LR).build(straight), Muon(lr=LR).build(stopped)
    for step in range(2):
        for learner, optimizer in ((straight, one), (stopped, two)):
            give_gradients(learner, step)
            optimizer.step()
    again = copy.deepcopy(stopped)
    three = Muon(lr=LR).build(again)
    for p, q in zip(stopped.parameters(), again.parameters(), strict=True):
        for field, value in two.state[p].items():
            three.state[q][field] = value.clone()
    for learner, optimizer in ((straight, one), (again, three)):
        give_gradients(learner, 2)
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(straight.parameters(), again.parameters(), strict=True))
    # torch's own way too.
    four = Muon(lr=LR).build(again)
    four.load_state_dict(three.state_dict())
    give_gradients(again, 3), give_gradients(straight, 3)
    four.step(), one.step()
    assert all(torch.equal(p, q) for p, q in zip(straight.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("build", "where"),
    [
        (lambda: Muon(lr=0), "optim.lr"),
        (lambda: Muon(momentum=1.0), "optim.momentum"),
        (lambda: Muon().build(Learner().requires_grad_(False)), "optim.kind"),
    ],
)
def test_settings_that_cannot_train_are_refused_by_name(build, where) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert caught.value.where == where and caught.value.do


def test_bf16_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="not float32"):
        Muon().build(Learner().bfloat16())


@pytest.mark.slow
def test_sharded_over_two_processes_it_equals_one_process() -> None:
    """Matrices with an odd number of rows too. See the script for what else it holds of sharded learners."""
    script = Path(__file__).with_name("two_shards.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("all held") == 2, done.stdout + done.stderr[-3000:]
