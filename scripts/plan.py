"""`animeflow plan` as a script, for launchers: accelerate launch scripts/plan.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["plan", *sys.argv[1:]])
