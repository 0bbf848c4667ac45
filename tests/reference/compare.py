"""The comparison of the library's steps with those of a trace."""

import jax.numpy as jnp
import numpy as np


def to_jax(tree: dict) -> dict:
    return {name: jnp.asarray(leaf, bool if leaf.dtype == bool else jnp.float32) for name, leaf in tree.items()}


def record(mask: dict, **trees: dict) -> dict:
    """Return the record of a step: a mask, its counts, and trees of values."""
    return {"mask": mask, **trees, "living": {name: int(m.sum()) for name, m in mask.items()}}


def compare(ours: list[dict], published: list[dict]) -> None:
    """Hold masks and counts against the trace exactly, and values to the rounding of float32."""
    assert len(ours) == len(published)
    for t, (own, right) in enumerate(zip(ours, published, strict=True)):
        assert own["living"] == right["living"], f"counts of step {t}"
        assert own.keys() == right.keys()
        for what in right.keys() - {"living"}:
            for name, values in right[what].items():
                where = f"{what} of step {t}, {name}"
                if what == "mask":
                    np.testing.assert_array_equal(own[what][name], values, where)
                else:
                    np.testing.assert_allclose(own[what][name], values, rtol=1e-5, atol=2e-6, err_msg=where)
