"""Shards, the latent and text cache, the order of data and the loader. Knows files and one family's codec and text tower
through their protocols; knows no recipe, no trainer and no config."""
