"""`animeflow export` as a script, for launchers: accelerate launch scripts/export.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
