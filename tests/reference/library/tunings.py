"""The library's side of traces of sparse tunings."""

import jax
import jax.numpy as jnp
import optax

from jaxticket.methods.finetune import lt_sft as tuning
from tests.reference.library.classifier import count as count_living
from tests.reference.published import lt_sft as published


def lt_sft(count, iterations):
    x, y, original = published.problem()
    loss = lambda p: optax.sigmoid_binary_cross_entropy(x @ p["w"] + p["b"], y).mean()

    @jax.jit
    def train(params, mask):
        tx = tuning.tune_only(optax.sgd(published.RATE), mask)
        state = tx.init(params)
        for _ in range(published.STEPS):
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        return params

    base = {name: jnp.asarray(p, jnp.float32) for name, p in original.items()}
    params, mask = tuning.lt_sft(base, train, count, rounds=iterations)
    return [{"mask": mask, "living": count_living(mask), "weights": params}]


LIBRARY = {"lt_sft": lt_sft}
