"""LeNet-300-100 trained under masks by jaxticket's loops, and the matrix products of that training by themselves.

Run as a process of its own: python _jax_lenet.py (search|products) TICKETS. The environment may name another number of
EXAMPLES. Several tickets are placed by
`training.place` on as many host devices as there are cores. It prints "ready", and for each line on its standard input
trains every ticket for an epoch and prints the seconds.
"""

import os
import sys
import time

import jax
import jax.numpy as jnp
import optax

import jaxticket as jt
from jaxticket import models, training

EXAMPLES = int(os.environ.get("EXAMPLES", "60000"))
FEATURES, CLASSES, BATCH = 784, 10, 128
STEPS = EXAMPLES // BATCH
MODEL = models.lenet_300_100()


def loss(params, state, batch, key):
    x, y = batch
    logits, state = MODEL.apply(params, state, x, train=True, key=key)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), state


def recipe(data):
    return training.Recipe(loss=loss, data=data, learning_rate=optax.constant_schedule(1.2e-3), batch_size=BATCH)


def train(data, params, mask, key):
    """Train a ticket for an epoch, as a function that can be mapped over tickets."""
    return training.scan_train(recipe(data), steps=STEPS)(params, None, mask, key, step=0, opt_state=None).params


def products(data, params, mask, key):
    """Compute the eight matrix products of each step and nothing else; the numbers mean nothing."""
    x, _ = data
    kernels = tuple(params[name]["kernel"] for name in ("hidden1", "hidden2", "output"))

    def step(i, kernels):
        w1, w2, w3 = kernels
        batch = jax.lax.dynamic_slice_in_dim(x, i * BATCH, BATCH)
        h1 = batch @ w1
        h2 = h1 @ w2
        d3 = h2 @ w3
        d2 = d3 @ w3.T
        d1 = d2 @ w2.T
        return batch.T @ d1, h1.T @ d2, h2.T @ d3

    return jax.lax.fori_loop(0, STEPS, step, kernels)


def ticket(key):
    params, _ = MODEL.init(key)
    return params, jt.select(jt.filters.only(jt.scores.magnitude(params), jt.filters.weights()), 0.1)


def epoch_of(work, data, tickets):
    """Return a function without arguments that trains every ticket for an epoch."""
    keys = jax.random.split(jax.random.key(1), tickets)
    if tickets > 1:
        params, masks = jax.tree.map(lambda *xs: jnp.stack(xs), *map(ticket, keys))
        run = training.replicate(work, placement=training.place(jax.tree.map(lambda p: p[0], params), tickets))
        return lambda: run(data, params, masks, keys)
    params, mask = ticket(keys[0])
    if work is products:
        compiled = jax.jit(products)
        return lambda: compiled(data, params, mask, keys[0])
    fit = training.fit(recipe(data))
    copy = lambda tree: jax.tree.map(jnp.copy, tree)
    return lambda: fit(copy(params), None, mask, keys[0], step=0, steps=STEPS, opt_state=None)


def main():
    tickets = int(sys.argv[2])
    if tickets > 1:
        jax.config.update("jax_num_cpu_devices", os.cpu_count())
    work = {"search": train, "products": products}[sys.argv[1]]
    data = (
        jax.random.normal(jax.random.key(0), (EXAMPLES, FEATURES)),
        jnp.arange(EXAMPLES) % CLASSES,
    )
    epoch = epoch_of(work, data, tickets)
    jax.block_until_ready(epoch())
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        jax.block_until_ready(epoch())
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()
