"""Essential sparsity of a pretrained transformer."""
