"""Floor 0: nouns and habits that every room shares. Knows tensors and files; knows no model, picture or config."""
