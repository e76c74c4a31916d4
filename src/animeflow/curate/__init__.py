"""Which pictures a set has, and why: groups, decisions, queries, provenance. Scores order; people decide; all can be undone."""
