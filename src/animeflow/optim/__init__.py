"""Floor 2: parameter groups, learning-rate schedules and the moving average. Knows parameters; knows no loss and no loop."""
