"""Methods that remove whole channels."""
