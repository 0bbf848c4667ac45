"""Data pruning: which examples are worth training on."""
