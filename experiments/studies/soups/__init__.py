"""Sparse model soups: retrained copies, averaged."""
