"""A small language model that is trained here, and kept as a folder of transformers."""
