"""The laboratory: scripts at the top, and packages that build on each other."""
