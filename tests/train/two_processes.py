"""Started by torchrun from a test: folder, images of the run, images to stop at, and JSON with what else `toy.trainer` takes:
settings by name, `guard`, and `poison` and `loud` steps."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor
from toy import trainer

from animeflow.core import log
from animeflow.train.settings import Guard, Settings

torch.set_num_threads(1)
log.setup()
folder, images, stop, more = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
loud = {int(step): times for step, times in more.pop("loud", {}).items()}
data = {"poison": more.pop("poison", None), "loud": loud, "micro_batch": 2, "rank": rank, "world": world}
slow = more.pop("slow", 0.0)
precision = more.pop("precision", "fp32")
settings = {**more, "guard": Guard(**more.pop("guard", {}))}
run = trainer(folder, images=images, precision=precision, settings=settings | {"sharding": more["sharding"]}, **data)
sharded = more["sharding"] == "fsdp2"
assert run.parallel.sharded == sharded == isinstance(run.learner.conv.weight, DTensor)
assert run.parallel.world == world, "the launcher and accelerate disagree about the number of processes"
assert len(next(iter(run.steps))) == 2, "gradients are accumulated over two micro-batches"
run.steps.load_state_dict(run.place)
told: set[torch.dtype] = set()
if slow and rank == 1:
    run.learner.register_forward_pre_hook(lambda *_: time.sleep(slow))
run.learner.register_forward_pre_hook(lambda _, inputs: told.add(inputs[1].dtype))
run.resume()
run.settings = Settings(**{**vars(run.settings), "images": stop})
run.run()
assert told == {torch.float32}, "t is float32 until the model has it"
assert {p.dtype for p in run.learner.parameters()} == {torch.float32}, "so are weights"
moments = [v for state in run.optimizer.state.values() for v in state.values()]
assert {v.dtype for v in moments} == {torch.float32}
run.close()
sys.stdout.flush()
os._exit(0)  # as scripts/train.py does, and for its reason
