"""Started by a test: two processes that share a learner, in copies and in parts, and find its gradients with a prior. Argument: a
folder."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
from recipe_toys import Added, batch, recipe
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel


def gradients(how: str, rank: int) -> dict[str, list]:
    net = Added(up=0.3)
    wrapped = DistributedDataParallel(net) if how == "ddp" else fully_shard(net)
    asked = recipe(net, wrapped, prior_weight=0.5)
    for i in range(2):
        last, rows = i == 1, slice(4 * rank + 2 * i, 4 * rank + 2 * i + 2)
        if how == "fsdp2":
            net.set_requires_gradient_sync(last)
            net.set_reshard_after_backward(last)
        with wrapped.no_sync() if how == "ddp" and not last else contextlib.nullcontext():
            (2 * asked.loss(batch(rows)).loss).backward()  # processes are averaged
    found = {name: parameter.grad for name, parameter in net.named_parameters()}
    return {name: (g.full_tensor() if isinstance(g, DTensor) else g).tolist() for name, g in found.items()}


def work(folder: Path, rank: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    found = {how: gradients(how, rank) for how in ("ddp", "fsdp2")}
    if rank == 0:
        (folder / "gradients.json").write_text(json.dumps(found))
    dist.barrier()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            try:
                work(folder, rank)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        children.append(child)
    for _ in range(2):
        child, status = os.wait()
        if status != 0:  # the other would wait for it
            for other in set(children) - {child}:
                os.kill(other, 9)
            sys.exit("a process failed")
        children.remove(child)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
