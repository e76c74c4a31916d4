"""`animeflow train` as a script, for launchers: accelerate launch scripts/train.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
