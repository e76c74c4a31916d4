"""`animeflow report` as a script, for launchers: accelerate launch scripts/report.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
