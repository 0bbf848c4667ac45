"""What pruned networks show about training."""
