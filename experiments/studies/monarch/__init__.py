"""Layers as products of block-diagonal matrices, beside dense and narrow ones."""
