"""Floor 3: what is asked of a learner, as one or more losses. Knows batches and flow; reads no key of a Conditioning."""
