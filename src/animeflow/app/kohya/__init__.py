"""kohya's TOML files read as the words of a run here. Every key becomes something or is told why not."""
