"""Floor 1: path, timestep density, weight, schedule, solver and guidance. Knows tensors; knows no model, batch or picture."""
