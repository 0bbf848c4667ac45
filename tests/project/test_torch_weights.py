"""Weights that a benchmark carries to PyTorch and back, by PyTorch's names and layouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import _torch_weights
from jaxticket import structure

SHAPES = {
    "params": {
        "stem": {"conv": {"kernel": (3, 5, 2, 4)}, "norm": {"scale": (4,), "bias": (4,)}},
        "output": {"kernel": (4, 6), "bias": (6,)},
    },
    "state": {"stem": {"norm": {"mean": (4,), "var": (4,)}}},
}
ATTENTION = {"params": {"query": {"kernel": (8, 2, 3), "bias": (2, 3)}, "out": {"kernel": (2, 3, 8), "bias": (8,)}}}


def drawn(shapes):
    """Random arrays of these shapes."""
    generator = np.random.default_rng(0)
    return jax.tree.map(generator.standard_normal, shapes, is_leaf=lambda x: isinstance(x, tuple))


def test_names_and_layouts_are_those_of_pytorch():
    variables = drawn(SHAPES)
    arrays = _torch_weights.to_torch(variables)
    assert {name: x.shape for name, x in arrays.items()} == {
        "stem.conv.weight": (4, 2, 3, 5),  # outputs, inputs, height, width
        "stem.norm.weight": (4,),
        "stem.norm.bias": (4,),
        "stem.norm.running_mean": (4,),
        "stem.norm.running_var": (4,),
        "output.weight": (6, 4),
        "output.bias": (6,),
    }
    assert arrays["stem.conv.weight"][3, 1, 2, 4] == variables["params"]["stem"]["conv"]["kernel"][2, 4, 1, 3]
    np.testing.assert_array_equal(arrays["stem.norm.running_var"], variables["state"]["stem"]["norm"]["var"])


def test_heads_and_their_channels_become_one_axis():
    variables = drawn(ATTENTION)
    arrays, own = _torch_weights.to_torch(variables), variables["params"]
    assert arrays["query.weight"][3 + 2, 7] == own["query"]["kernel"][7, 1, 2]
    assert arrays["query.bias"][3 + 2] == own["query"]["bias"][1, 2]
    assert arrays["out.weight"][7, 3 + 2] == own["out"]["kernel"][1, 2, 7]


def test_what_comes_back_is_the_same_and_may_be_narrower():
    variables = drawn(SHAPES)
    arrays = _torch_weights.to_torch(variables)
    jax.tree.map(np.testing.assert_array_equal, _torch_weights.from_torch(arrays, variables), variables)
    arrays["stem.conv.weight"] = arrays["stem.conv.weight"][:3]
    back = _torch_weights.from_torch(arrays, variables)["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(back, variables["params"]["stem"]["conv"]["kernel"][..., :3])


def test_outputs_that_layers_lost_are_masks_of_channels():
    params = {name: {"kernel": jnp.ones((3, 4))} for name in ("first", "second")}
    variables = {"params": {**params, "output": {"kernel": jnp.ones((4, 2))}}}

    def apply(variables, x):
        first, second, output = (variables["params"][name]["kernel"] for name in ("first", "second", "output"))
        return (x @ first + x @ second) @ output

    groups = structure.trace(apply, variables, jnp.ones((1, 3)))
    kept = _torch_weights.kept_channels({"first": [0, 2], "second": [0, 2]}, groups)
    assert {name: mask.tolist() for name, mask in kept.items()} == {"params/first/kernel:1": [False, True, False, True]}
    assert _torch_weights.kept_channels({}, groups)["params/first/kernel:1"].all()
    with pytest.raises(RuntimeError, match="different channels"):
        _torch_weights.kept_channels({"first": [0, 2]}, groups)
