"""Floor 4: the loop, its checkpoints and its records. The door to accelerate and wandb. Knows phases, images and hooks; knows
no family and no data set."""
