"""`animeflow catalogue` as a script, for launchers: accelerate launch scripts/catalogue.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["catalogue", *sys.argv[1:]])
