"""A run: its configuration, command line, folder, processes and environment."""
