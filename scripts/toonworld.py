"""`animeflow toonworld` as a script, for launchers: accelerate launch scripts/toonworld.py KEY=VALUE ..."""

import sys

from animeflow.app.cli import main

if __name__ == "__main__":
    main(["toonworld", *sys.argv[1:]])
