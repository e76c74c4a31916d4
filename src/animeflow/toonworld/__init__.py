"""A drawn world with known truth: chibi figures by lot, their layers, words and data sets. Knows no torch and no catalogue."""
