"""The axis of inputs that names give is the one over which the products of each network sum."""

import re

import jax
import jax.numpy as jnp
import pytest

from jaxticket import _layers, _tree, filters, models, scopes

TOKENS, IMAGES = jnp.zeros((2, 8), int), jnp.ones((2, 8, 8, 3))
NETWORKS = {
    "gpt": (models.gpt(vocabulary=40, context=8, layers=1, heads=3, width=24), TOKENS),
    "bert": (models.bert(vocabulary=40, context=8, layers=1, heads=2, width=16), TOKENS),
    "decoder": (models.decoder(vocabulary=40, layers=1, heads=4, key_value_heads=2, width=24, hidden=20), TOKENS),
    "vit": (models.vit_tiny(classes=10, image_size=8, patch=4), IMAGES),
    "resnet": (models.resnet_20(width=4), IMAGES),
    "lstm": (models.lstm(vocabulary=40, width=24, layers=1, dropout=0), TOKENS),
    "efficientnet_lite": (models.efficientnet_lite0(classes=10, width=4), IMAGES),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_names_give_the_axis_of_the_products(name):
    model, x = NETWORKS[name]
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    apply = lambda both, x: model.apply(*both, x, train=False, key=None)[0]
    axes = scopes.input_axes(apply, (params, state), x)
    seen = 0
    trees = _tree.names(params), _layers.places(params), params, filters.weights()(params)
    for path, place, leaf, pruned in zip(*map(_tree.leaves, trees), strict=True):
        axis = _layers.input_axis(place, leaf.ndim)
        fused = (name, axis) == ("lstm", None)  # gates, of which only the model has the axis
        if pruned and not fused and leaf.shape[axis] > 1:  # depthwise kernels sum over pixels alone
            seen += 1
            assert axis % leaf.ndim == axes[f"^{re.escape(f'0/{path}')}$"], path
    assert seen > 0
