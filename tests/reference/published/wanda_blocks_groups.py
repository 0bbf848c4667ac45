"""Wanda on a language model with 2:4 sparsity."""

from tests.reference.published import wanda_blocks

ABOUT = {**wanda_blocks.ABOUT, "settings": {"density": 0.5, "group": 4}, "deviations": []}
rounds = wanda_blocks.rounds
