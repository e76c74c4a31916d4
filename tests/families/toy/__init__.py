"""The toy family. Imports nothing: `CELL` is asked for before there is a codec."""

CELL = 4  # pixels along one side of a token: codec stride 4 x patch 1
