"""Which pictures a set has, and why: groups of the same drawing, people's decisions, queries, provenance, shares. Scores order; people
decide; everything has a reason and can be undone."""
