"""`scripts/train.py` of which the process of rank 1 is killed once, in the middle: a file, then the words of the verb."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from animeflow.app.cli import main
from animeflow.train.trainer import Trainer

mark, step = Path(sys.argv[1]), Trainer.step


def step_or_die(self, micro_batches):
    if self.parallel.rank == 1 and self.progress.images_seen >= 16 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, micro_batches)


Trainer.step = step_or_die
try:
    main(["train", *sys.argv[2:]])
except SystemExit as ended:
    os._exit(int(ended.code or 0))
