"""Started by torchrun from a test: folder, images of the run, images to stop at, sharding."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor
from toy import trainer

from animeflow.train.settings import Settings

torch.set_num_threads(1)
folder, images, stop = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
sharding = sys.argv[4] if len(sys.argv) > 4 else "none"
run = trainer(folder, images=images, micro_batch=4, rank=rank, world=world, settings={"sharding": sharding})
assert run.parallel.sharded == (sharding == "fsdp2") and run.parallel.sharded == isinstance(
    run.learner.conv.weight, DTensor
)
assert run.parallel.world == world, "the launcher and accelerate disagree about the number of processes"
run.resume()
run.settings = Settings(**{**vars(run.settings), "images": stop})
run.run()
run.close()
sys.stdout.flush()
os._exit(0)  # as scripts/train.py does, and for its reason
