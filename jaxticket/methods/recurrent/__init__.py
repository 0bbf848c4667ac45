"""Sparse recurrent networks."""
