"""`animeflow bench` as a script, for launchers: accelerate launch scripts/bench.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["bench", *sys.argv[1:]])
