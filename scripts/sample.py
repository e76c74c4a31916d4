"""`animeflow sample` as a script, for launchers: accelerate launch scripts/sample.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["sample", *sys.argv[1:]])
