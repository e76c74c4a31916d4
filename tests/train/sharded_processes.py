"""Started by a test: processes that save and restore together, over gloo, sharded in every way. Prints what it found as JSON.

Argument: a folder that holds `one/000000000008`, a checkpoint that one process wrote of `state(whole)`. Every process is a fork of
this one, which has only imported, so that a world of four costs no more than its work.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from saved import bits, every_kind
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from animeflow.core.errors import DataError
from animeflow.train import checkpoint, sharded
from animeflow.train.checkpoint import Checkpoints, SaveFailed


def net(seed: int) -> nn.Sequential:
    """Layers whose rows do not divide among two processes, nor all of them have one row for each."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 1), nn.LayerNorm(1))


def trained(seed: int, mesh: DeviceMesh | None) -> tuple[nn.Module, torch.optim.Optimizer, dict[nn.Parameter, str]]:
    """A learner after two steps, sharded over a mesh."""
    module = net(seed)
    if mesh is not None:
        fully_shard(module, mesh=mesh)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)
    torch.manual_seed(seed + 1)
    for _ in range(2):
        module(torch.randn(4, 7)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return module, optimizer, {parameter: name for name, parameter in module.named_parameters()}


def state(seed: int, mesh: DeviceMesh | None) -> dict[str, dict[str, Tensor]]:
    _, optimizer, names = trained(seed, mesh)
    torch.manual_seed(0)
    return {
        "learner": {name: parameter.detach() for parameter, name in names.items()},
        "optimizer": checkpoint.flatten_optimizer(optimizer, names),
        **{
            group: {name: value.clone(memory_format=torch.contiguous_format) for name, value in values.items()}
            for group, values in every_kind().items()
            if group != "learner"
        },
    }


def whole(groups: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {
        f"{group}/{name}": value.full_tensor() if isinstance(value, DTensor) else value
        for group, values in groups.items()
        for name, value in values.items()
    }


def equal(one: dict[str, dict[str, Tensor]], other: dict[str, dict[str, Tensor]]) -> bool:
    mine, theirs = whole(one), whole(other)
    return mine.keys() == theirs.keys() and all(bits(mine[name]) == bits(theirs[name]) for name in mine)


def unpickled(body: Callable[[], None]) -> None:
    """Run without anything that pickles."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something is pickled")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("load", "loads", "dump", "dumps", "Pickler", "Unpickler"):
            patch.setattr(pickle, name, refuse)
        for name in ("_pickler", "_unpickler"):
            patch.setattr(dist.distributed_c10d, name, refuse)
        body()


def fsdp2(folder: Path, rank: int) -> None:
    mesh = init_device_mesh("cpu", (2,))
    module, optimizer, names = trained(1, mesh)
    ours = {"learner": dict(module.named_parameters()), "optimizer": checkpoint.flatten_optimizer(optimizer, names)}
    truth = whole(ours)
    if rank == 0:
        save_file({name: value.contiguous() for name, value in truth.items()}, folder / "truth.safetensors")
    root = folder / "two"
    (root).mkdir(exist_ok=True)
    now = Checkpoints(root, keep_last=None)
    unpickled(lambda: now.save(8, ours, {"by": rank}))
    later = Checkpoints(root, keep_last=None, asynchronous=True)
    unpickled(lambda: later.save(16, ours, {"by": rank}))
    with torch.no_grad():  # training goes on at once
        for parameter in module.parameters():
            parameter.mul_(-3)
    optimizer.zero_grad()
    later.wait()

    other, empty, other_names = trained(5, mesh)
    checkpoint.blank_optimizer(empty, other_names, sharded.describe(root / "000000000016")["optimizer"])
    back = {"learner": dict(other.named_parameters()), "optimizer": checkpoint.flatten_optimizer(empty, other_names)}
    found = later.resume_from()
    assert found == root / "000000000016"
    assert later.resume_from(before=16) == root / "000000000008"
    unpickled(lambda: later.restore(found, back))
    assert all(bits(value) == bits(truth[name]) for name, value in whole(back).items()), "restored sharded"
    other(torch.ones(1, 7)).sum().backward()
    empty.step()  # the optimizer takes what was restored
    with pytest.raises(DataError, match="differ"):
        later.restore(found, {"learner": {"0.weight": back["learner"]["0.weight"]}})
    for each in (now, later):
        each.close()


def from_one(folder: Path, rank: int, mesh: DeviceMesh | None, images: int) -> None:
    """Read what one process wrote, and write it again."""
    fresh, checkpoints = state(9, mesh), Checkpoints(folder / "again", keep_last=None)
    checkpoints.restore(folder / "one" / "000000000008", fresh)
    plain = checkpoint.load(folder / "one" / "000000000008")[0]
    assert equal(fresh, {group: plain[group] for group in fresh})
    checkpoints.save(images, fresh, {})
    checkpoints.close()


def fails(folder: Path, rank: int) -> None:
    """What goes wrong on one of two comes out of both; the checkpoint before stays, and the next save succeeds."""
    root, tensors = folder / "fails", {"learner": {str(i): torch.ones(20_000) for i in range(4)}}
    checkpoints, later = Checkpoints(root, keep_last=2), Checkpoints(root, keep_last=2, asynchronous=True)
    checkpoints.save(8, tensors, {})
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    with pytest.raises(SaveFailed, match="File too large" if rank else "process 1: .*File too large"):
        checkpoints.save(16, tensors, {})
    later.save(16, tensors, {})
    with pytest.raises(SaveFailed, match=os.strerror(errno.EFBIG)):
        later.wait()
    dist.barrier()  # process 0 clears up
    assert sorted(path.name for path in root.iterdir()) == ["000000000008"]
    later.save(16, tensors, {})
    if rank == 1:
        later.join()
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
    with pytest.raises(SaveFailed):
        later.save(24, tensors, {})  # tells of the one before, and has begun
    later.wait()
    assert [int(path.name) for path in checkpoint.list_folders(root)] == [8, 24]
    with pytest.raises(TypeError if rank else RuntimeError, match="JSON" if rank else "process 1 failed: TypeError"):
        checkpoints.save(32, tensors, {"x": object()} if rank else {})
    with pytest.raises(RuntimeError, match="do not save the same tensors"):
        checkpoints.save(32, {"learner": {f"x{rank}": torch.ones(1)}}, {})
    dist.barrier()
    if rank == 0:
        (shard,) = (root / "000000000024").glob("*-00002-of-*")
        shard.write_bytes(shard.read_bytes()[:-1])
    dist.barrier()
    assert checkpoints.resume_from() == root / "000000000008"
    for each in (checkpoints, later):
        each.close()


def dies(folder: Path, rank: int) -> None:
    """One of two dies in the middle of a save: the other neither waits for it nor leaves anything half."""
    root, tensors = folder / "dies", {"learner": {str(i): torch.ones(100) for i in range(4)}}
    checkpoints = Checkpoints(root, keep_last=2, asynchronous=True)
    checkpoints.save(8, tensors, {})
    checkpoints.wait()
    if rank == 1:
        sharded.write = lambda *_: os._exit(0)
    checkpoints.save(16, tensors, {})
    with pytest.raises(RuntimeError, match=r"(?i)connection|peer|socket"):
        checkpoints.wait()
    os._exit(0)


def ddp(folder: Path, rank: int) -> None:
    from_one(folder, rank, None, 24)


def sharded_again(folder: Path, rank: int) -> None:
    from_one(folder, rank, init_device_mesh("cpu", (2,)), 16)


def hsdp(folder: Path, rank: int) -> None:
    from_one(folder, rank, init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "parts")), 32)


def run(world: int, bodies: list[Callable[[Path, int], None]], folder: Path) -> None:
    """Do each body on `world` processes that know each other."""
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                store = folder / f"store-{bodies[0].__name__}"
                dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
                for body in bodies:
                    body(folder, rank)
                dist.barrier()
                code = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(code)
        children.append(child)
    for _ in range(world):
        child, status = os.wait()
        if status != 0:  # the others would wait for it
            for other in set(children) - {child}:
                os.kill(other, 9)
            sys.exit(f"a process of {[body.__name__ for body in bodies]} failed")
        children.remove(child)


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    run(2, [fsdp2, sharded_again, ddp, fails], folder)
    run(2, [dies], folder)
    run(4, [hsdp], folder)
    print(json.dumps({"done": True}))


if __name__ == "__main__":
    main()
