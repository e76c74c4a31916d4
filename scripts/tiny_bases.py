"""Puts finished demo runs where `animeflow lora --tiny` finds its bases: python scripts/tiny_bases.py FOLDER

FOLDER is where the demos ran: it holds runs/toonworld, runs/anima_toonworld and sets/toonworld. `make tiny-bases` runs them."""

import sys
from pathlib import Path

from animeflow.app.bases import publish_base, publish_oracle

RUNS = {"sd35": "toonworld", "anima": "anima_toonworld"}

if __name__ == "__main__":
    home = Path(sys.argv[1])
    for family, run in RUNS.items():
        print(publish_base(home / "runs" / run / "export", family))
    print(publish_oracle(home / "sets" / "toonworld" / "oracle"))
