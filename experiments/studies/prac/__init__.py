"""Tickets on PrAC sets: few examples, which pruning forgets or which are hard."""
