"""The laboratory: scripts at the top, and rooms that build on each other."""
