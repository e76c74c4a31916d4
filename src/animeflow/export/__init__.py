"""Floor 3: from trained weights to files that other programs load, checked, hashed and described by a model card.

Knows layouts by their protocol and a run by its record; knows no trainer, no config and no key of a state.
"""
