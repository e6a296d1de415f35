"""Torch classifiers: the loop, the networks and the data."""
