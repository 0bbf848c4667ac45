"""Tokens that transformers drop."""
