"""The small classifier of `tests.reference.network` as the library sees it."""

import jax
import jax.numpy as jnp
import optax

from jaxticket import data_pruning
from tests.reference.network import Network

NETWORK = Network()
KERNELS = {name: jnp.asarray(w, jnp.float32) for name, w in NETWORK.weights.items()}
BIASES = {f"{i}/bias": jnp.asarray(bias[None], jnp.float32) for i, bias in enumerate(NETWORK.biases)}
PARAMS = {**KERNELS, **BIASES}
BATCHES = [(jnp.asarray(x, jnp.float32), jnp.asarray(y)) for x, y in NETWORK.batches]


def apply(params, x):
    x = jax.nn.relu(x @ params["0/kernel"] + params["0/bias"])
    x = jax.nn.relu(x @ params["1/kernel"] + params["1/bias"])
    return x @ params["2/kernel"] + params["2/bias"]


def criterion(outputs, batch):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1]).mean()


observe = jax.jit(data_pruning.update)


def count(mask):
    return {name: int(m.sum()) for name, m in mask.items() if m is not None}
