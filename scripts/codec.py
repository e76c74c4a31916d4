"""`animeflow codec` as a script, for launchers: accelerate launch scripts/codec.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["codec", *sys.argv[1:]])
