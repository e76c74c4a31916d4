"""Stable Diffusion 3.5. Imports nothing: `CELL` is asked for before there is a codec."""

CELL = 16  # pixels along one side of a token: 8 per latent cell, 2 latent cells per token
