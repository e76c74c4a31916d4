"""`animeflow shard` as a script, for launchers: accelerate launch scripts/shard.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["shard", *sys.argv[1:]])
