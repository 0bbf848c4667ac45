"""Pruning of trained networks."""
