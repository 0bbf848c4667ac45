"""The three regimes of pruning, over temperatures and densities."""
