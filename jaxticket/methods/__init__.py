"""Published systems, one file each, that are more than a mask. Models and data are their arguments."""
