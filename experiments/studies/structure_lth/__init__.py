"""Tickets made coarse after iterative pruning: whole channels, and dense blocks."""
