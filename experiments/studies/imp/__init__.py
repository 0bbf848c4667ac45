"""Iterative magnitude pruning with rewinding: the search, its controls, branches and verdicts."""
