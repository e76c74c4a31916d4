"""Started by torchrun from a test: optimizer and averages of a learner sharded over two processes, against one that is whole."""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from test_optim_muon import Learner
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from animeflow.optim.muon import Muon
from animeflow.optim.power_ema import PowerEMA

torch.set_num_threads(1)
dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
whole, cut = Learner(), Learner()
for block in cut.blocks():
    fully_shard(block, mesh=mesh)
fully_shard(cut, mesh=mesh)
optimizers = [Muon(lr=1e-2, weight_decay=0.1).build(learner) for learner in (whole, cut)]
averages = [PowerEMA(learner, sigma_rels=(0.05, 0.10)) for learner in (whole, cut)]


def full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def same(what: str) -> None:
    for (name, p), q in zip(whole.named_parameters(), cut.parameters(), strict=True):
        assert isinstance(q, DTensor), f"{what}: {name} is not sharded any more"
        torch.testing.assert_close(full(q), p, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{what}: {n}: {m}")


for step in range(4):
    draw = torch.Generator().manual_seed(step)
    c, bad = torch.randn(8, 4, generator=draw), step == 2
    for learner, optimizer, average in zip((whole, cut), optimizers, averages, strict=True):
        learner(
            c
        ).square().mean().backward()  # the same pictures on both: the mean over processes is the gradient itself
        if bad:
            for p in learner.parameters():
                p.grad.mul_(float("nan"))
        optimizer.found_inf = torch.tensor(float(bad))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(8 * (step + 1), 8)
    same(f"after step {step}")
    outputs = []
    for learner, average in zip((whole, cut), averages, strict=True):
        with average.applied(0.10), torch.no_grad():
            outputs.append(learner(c))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)
    same(f"after the average of step {step} was applied")
    with torch.no_grad():  # a gathered copy of the average would still be computed with here
        torch.testing.assert_close(cut(c), whole(c), rtol=1e-5, atol=1e-6)
    for module in (cut, *cut.blocks()):
        module.reshard()
for name, group in averages[1].state_dict().items():
    for key, value in group.items():
        assert isinstance(value, DTensor), "the average of a sharded parameter is sharded"
        torch.testing.assert_close(full(value), averages[0].state_dict()[name][key], rtol=1e-5, atol=1e-6)
for p in cut.parameters():
    assert all(isinstance(v, DTensor) for k, v in optimizers[1].state[p].items() if k != "step"), "moments are sharded"
print("all held", flush=True)
sys.stdout.flush()
dist.barrier()
os._exit(0)  # the teardown of a gloo group sometimes aborts
