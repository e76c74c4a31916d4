"""Floor 3: what learns. Everything, or low-rank additions to a frozen base; and what is done to these afterwards."""
