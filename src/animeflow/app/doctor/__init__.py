"""Whether this machine can train: what was found, what it means, what mends it. Every check is a function of facts."""
