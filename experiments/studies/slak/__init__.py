"""Very large kernels in branches, sparse and wide, beside dense ones and small ones."""
