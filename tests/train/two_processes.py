"""Started by torchrun from a test: folder, images of the run, images to stop at."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from toy import trainer

from animeflow.train.trainer import Settings

torch.set_num_threads(1)
folder, images, stop = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
run = trainer(folder, images=images, micro_batch=4, rank=rank, world=world)
assert run.accelerator.num_processes == world, "the launcher and accelerate disagree about the number of processes"
run.resume()
run.settings = Settings(**{**vars(run.settings), "images": stop})
run.run()
run.close()
sys.stdout.flush()
os._exit(0)  # as scripts/train.py does, and for its reason
