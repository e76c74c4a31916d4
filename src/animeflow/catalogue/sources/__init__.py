"""Readers of folders and dumps, one module each; every one is an iterable of Candidate. They read facts and decode no picture."""
