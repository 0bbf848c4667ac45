"""Whole layers removed at initialisation, beside channels at equal multiply-adds."""
