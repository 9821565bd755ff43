"""Measurements: ours against a floor made by hand, in one run."""
