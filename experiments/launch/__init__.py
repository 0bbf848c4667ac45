"""Launchers of experiments on several machines."""
