"""`animeflow ema` as a script, for launchers: accelerate launch scripts/ema.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["ema", *sys.argv[1:]])
