"""How processes share one learner: a whole copy each (DDP), or a part each (FSDP2, HSDP). Knows processes; knows no data.

Sharding is torch's `fully_shard` on the blocks and then on the rest, put here by us and not by accelerate's plugin: that one leaves
a CPU run unsharded without a word, and stumbles over buffers that are saved (SD3's position table). accelerate says who we are.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from ..core.errors import ConfigError
from ..model.protocol import Backbone
from .peers import Peers
from .settings import Settings

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 24 * 3600.0


class Parallel:
    """The processes of a run. Raises ConfigError where they cannot share a learner as the settings ask."""

    def __init__(self, settings: Settings) -> None:
        wish = _wish(settings)
        self.accelerator = Accelerator(
            mixed_precision="bf16" if settings.precision == "bf16" else "no",
            cpu=settings.device == "cpu" or not torch.cuda.is_available(),
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=datetime.timedelta(seconds=settings.timeout_seconds)),
                # Buffers are tables, equal everywhere: SD3's positions are 0.9 GB that would travel in every step. And gradients
                # are held once, where they travel from.
                DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
            ],
        )
        self.device = self.accelerator.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.precision = settings.precision
        self.kind, self.replicas = _resolve(*wish, self.world)
        if self.world == 1 and wish[0] in ("fsdp2", "hsdp"):
            log.warning(
                "one process was started, so nothing is sharded although %s is asked for: see docs/launch", wish[0]
            )
        self._peers = Peers(timeout_seconds=PATIENCE_SECONDS)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        """No process holds all weights: whatever calls the learner does so on every process at once."""
        return self.kind in ("fsdp2", "hsdp")

    @property
    def asks_for_hooks(self) -> bool:
        """Whether this process has to call the learner where one would do: of a sharded one every process holds a part."""
        return self.is_main or self.sharded

    @property
    def name(self) -> str:
        """For people, e.g. "hsdp over 2 x 8"."""
        if self.kind == "hsdp":
            return f"hsdp over {self.replicas} x {self.world // self.replicas}"
        return self.kind

    def wrap(self, learner: nn.Module) -> nn.Module:
        """The module that a recipe calls. Its parameters are those of `learner`; sharded, they become DTensors there."""
        if not self.sharded:
            return self.accelerator.prepare_model(learner)
        mesh = self._mesh()
        # Blocks are gathered in bf16: half the traffic, and for products what autocast would round them to (gains of norms in
        # blocks are rounded too, which it would not). Time, patch and output layers stay float32: they are small, and a t rounded
        # to bf16 is another t. Inputs are never cast, for the same reason.
        low = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
        same = MixedPrecisionPolicy(cast_forward_inputs=False)
        for block in cast(Backbone, learner).blocks():
            fully_shard(block, mesh=mesh, mp_policy=low if self.precision == "bf16" else same)
        fully_shard(learner, mesh=mesh, mp_policy=same)
        if self.precision == "bf16":
            learner.forward = torch.autocast(self.device.type, torch.bfloat16)(learner.forward)
        return learner

    def _mesh(self) -> Any:
        if self.kind == "fsdp2":
            return dist.init_device_mesh(self.device.type, (self.world,), mesh_dim_names=("shard",))
        shape = (self.replicas, self.world // self.replicas)
        return dist.init_device_mesh(self.device.type, shape, mesh_dim_names=("replicate", "shard"))

    @contextlib.contextmanager
    def accumulating(self, learner: nn.Module, *, last: bool) -> Iterator[None]:
        """Around one micro-batch: gradients travel between processes once per step, with the last one."""
        if isinstance(learner, FSDPModule):
            learner.set_requires_gradient_sync(last)
            learner.set_reshard_after_backward(last)  # the weights do not change in between
            yield
            return
        with contextlib.nullcontext() if last else self.accelerator.no_sync(learner):
            yield

    def backward(self, loss: Tensor) -> None:
        """`loss` is a sum over this process's part / images of the whole step; processes are averaged, so undo that."""
        self.accelerator.backward(loss * self.world)

    def clip(self, parameters: Iterable[nn.Parameter], norm: float) -> Tensor:
        """Scale gradients down to a global norm (0: leave them). Returns the norm before, a scalar on the device."""
        total = torch.nn.utils.clip_grad_norm_(parameters, norm or float("inf"))
        return total.full_tensor() if isinstance(total, DTensor) else total

    def sum(self, values: Tensor) -> Tensor:
        """Summed over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> list[Tensor]:
        """Tensors of equal shape from all processes, by rank."""
        if self.world == 1:
            return [values]
        parts = [torch.empty_like(values) for _ in range(self.world)]
        dist.all_gather(parts, values.contiguous())
        return parts

    def gather_objects(self, value: Any) -> list[Any]:
        """What every process says, by rank. For rare occasions: it waits."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def meet(self) -> None:
        """Wait for the others however long they take: the main process draws pictures while they have nothing to do. The wait is on
        the host, so no collective on a device runs into its time-out."""
        self._peers.gather(None)

    def close(self) -> None:
        """Wait for the other processes and leave their group."""
        self.wait()
        self._peers.close()
        self.accelerator.end_training()


def _wish(settings: Settings) -> tuple[str, int]:
    """`(kind, replicas)` that are asked for: by the settings, or by the file that accelerate's launcher passes on in the
    environment, out of which it is taken: we shard ourselves, and accelerate must not do it a second time."""
    fsdp = os.environ.pop("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")
    os.environ.pop("ACCELERATE_USE_PARALLELISM_CONFIG", None)
    copies = int(os.environ.get("PARALLELISM_CONFIG_DP_REPLICATE_SIZE") or 1)
    if settings.sharding != "auto":
        return settings.sharding, settings.replicas
    return ("none", 1) if not fsdp else ("hsdp", copies) if copies > 1 else ("fsdp2", 1)


def _resolve(kind: str, replicas: int, world: int) -> tuple[str, int]:
    """`(kind, replicas)` of so many processes."""
    if kind == "none" or world == 1:
        return ("ddp" if world > 1 else "one process"), 1
    if kind == "fsdp2":
        return kind, 1
    if world % replicas or replicas == 1:
        raise ConfigError(
            f"{world} processes cannot be cut into {replicas} groups that hold a whole copy each",
            where="train.replicas",
            do="use a number from 2 that divides the processes, usually the number of nodes; or train.sharding=fsdp2",
        )
    return kind, replicas
