"""`animeflow cache` as a script, for launchers: accelerate launch scripts/cache.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["cache", *sys.argv[1:]])
