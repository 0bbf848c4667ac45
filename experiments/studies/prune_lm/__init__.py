"""A pretrained language model that is pruned in one shot, block by block."""
