"""`animeflow train` as a script, for launchers: accelerate launch scripts/train.py KEY=VALUE ..."""

import os
import sys

from animeflow.app.cli import main

PREEMPTED = 75  # asked to stop, and saved

if __name__ == "__main__":
    try:
        main(["train", *sys.argv[1:]])
    except SystemExit as ended:
        if ended.code not in (None, 0, PREEMPTED) or int(os.environ.get("WORLD_SIZE", "1")) == 1:
            raise
        # One of several processes, and all is saved. While Python takes itself down, threads of torch's sometimes abort the
        # process, and the launcher then calls the whole run failed.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code or 0))
