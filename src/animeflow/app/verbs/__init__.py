"""One verb a file: `run(overrides, ...)` composes the config and calls the rooms below."""
