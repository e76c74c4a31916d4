"""Floor 2: parameter groups, learning-rate schedules and averages of the weights. Knows parameters; knows no loss and no loop."""
