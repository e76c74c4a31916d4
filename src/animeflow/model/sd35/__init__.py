"""Stable Diffusion 3.5. Imports nothing: `CELL` is asked for before there is a codec."""

CELL = 16  # pixels along one side of a token: 8 per latent cell, 2 latent cells per token

SIGNS = (  # patterns of keys by which a file is known, for messages
    (r"(^|\.)joint_blocks\.", "Stable Diffusion 3.x"),
    (r"(^|\.)transformer_blocks\.\d+\.norm1_context\.linear\.", "Stable Diffusion 3.x in diffusers' names"),
)
