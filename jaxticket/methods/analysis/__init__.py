"""Analyses of training through pruned networks."""
