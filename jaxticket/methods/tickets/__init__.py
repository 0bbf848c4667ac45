"""Searches for winning tickets, and what they are good for."""
