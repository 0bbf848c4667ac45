"""Widths of layers that are searched, computed or drawn, beside uniform ones at equal multiply-adds."""
