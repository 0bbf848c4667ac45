"""Searches for winning tickets, and changes to the way they prune."""
