"""`animeflow oracle` as a script, for launchers: accelerate launch scripts/oracle.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["oracle", *sys.argv[1:]])
