"""Methods of the field side by side."""
