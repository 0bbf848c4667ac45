"""A network whose widths are written into its program, and its ticket."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import structure

PARAMS = {
    "first": {"kernel": jax.random.normal(jax.random.key(0), (8, 12)), "bias": jnp.ones(12)},
    "head": {"kernel": jax.random.normal(jax.random.key(1), (6, 3))},
}
X = np.linspace(-1, 1, 40, dtype=np.float32).reshape(5, 8)


def apply(params, x):
    hidden = jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"][None])
    return hidden.reshape(x.shape[0], 6, 2).sum(2) @ params["head"]["kernel"]


GROUPS = structure.trace(apply, PARAMS, X)
KEPT = {g.name: np.arange(g.width) % 3 > 0 for g in GROUPS}
SMALLER = structure.shrink(PARAMS, KEPT, GROUPS)
RUN = structure.replay(apply, KEPT, GROUPS)
EACH = jax.vmap(lambda variables, x: RUN(variables, x[None])[0], in_axes=(None, 0))
