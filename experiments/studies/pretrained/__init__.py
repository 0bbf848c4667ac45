"""Channels, heads and layers removed from pretrained networks."""
