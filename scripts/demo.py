"""`animeflow demo` as a script, for launchers: accelerate launch scripts/demo.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["demo", *sys.argv[1:]])
