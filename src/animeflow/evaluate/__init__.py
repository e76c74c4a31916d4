"""Judging what a model makes: the oracle that reads drawn attributes back, adherence, codec quality, and the page that
shows a run. Knows pictures and records; knows no trainer.
"""
