"""SparseGPT on a language model with 2:4 sparsity."""

from tests.reference.published import sparsegpt_blocks

ABOUT = {
    **sparsegpt_blocks.ABOUT,
    "settings": {"density": 0.5, "blocksize": 4, "prunen": 2, "prunem": 4},
    "deviations": [],
}
rounds = sparsegpt_blocks.rounds
