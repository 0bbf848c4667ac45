"""The library's steps, in the form of a trace."""

import jax.numpy as jnp


def to_jax(tree: dict) -> dict:
    return {name: jnp.asarray(leaf, bool if leaf.dtype == bool else jnp.float32) for name, leaf in tree.items()}


def record(mask: dict, **trees: dict) -> dict:
    """Return the record of a step: a mask, its counts, and trees of values."""
    return {"mask": mask, **trees, "living": {name: int(m.sum()) for name, m in mask.items()}}
