"""The small problem of the learning checks: scikit-learn's 8 × 8 digits and a perceptron on them, replicates batched.

1,200 images to train and 597 to test; 64-300-100-10, Adam 1.2e-3, batches of 60, as in the settings that the published
orders were calibrated with. Nothing is tuned on the test images.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxticket as jt
from jaxticket import diagnostics, reparam

WIDTHS = (64, 300, 100, 10)
BATCH = 60


@functools.cache
def digits(train: int = 1200) -> Any:
    """(images, labels) to train and to test."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = jnp.asarray(images[order] / 16, jnp.float32), jnp.asarray(labels[order])
    return (images[:train], labels[:train]), (images[train:], labels[train:])


def init(key: jax.Array, widths: tuple[int, ...] = WIDTHS, kernel: Any = jax.nn.initializers.glorot_normal()) -> Any:
    keys = jax.random.split(key, len(widths) - 1)
    shapes = zip(keys, itertools.pairwise(widths), strict=True)
    return [{"kernel": kernel(k, shape), "bias": jnp.zeros((1, shape[1]))} for k, shape in shapes]


def apply(params: Any, x: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    return x @ params[-1]["kernel"] + params[-1]["bias"]


def loss(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, batch[0]), batch[1]).mean()


def accuracy(params: Any, test: tuple[jax.Array, jax.Array]) -> jax.Array:
    """In %."""
    return 100 * jnp.mean(apply(params, test[0]).argmax(-1) == test[1])


class Run:
    """Accuracies in % and masks of several seeds, which share one program."""

    def __init__(self, method: jt.Plan | reparam.Reparam, *, steps: int, seeds: int, widths: tuple[int, ...] = WIDTHS):
        keys = jax.random.split(jax.random.key(0), seeds)
        train = jax.jit(jax.vmap(lambda key: _train(method, key, steps, widths)))
        accuracy, self.mask, self.explored = train(keys)
        self.accuracy = np.asarray(accuracy)

    def __str__(self) -> str:
        mean, half = diagnostics.interval(self.accuracy.tolist())
        return f"{mean:.2f} ± {half:.2f} %"

    @property
    def kept(self) -> list[list[int]]:
        """How many weights each leaf keeps, a list a seed."""
        leaves = [np.asarray(m) for m in jax.tree.leaves(self.mask)]
        return [[int(m[i].sum()) for m in leaves] for i in range(len(self.accuracy))]

    @property
    def exploration(self) -> float:
        """The part of all weights that was ever alive, over seeds (in-time over-parametrisation; Liu et al., 2021)."""
        leaves = [np.asarray(m) for m in jax.tree.leaves(self.explored)]
        return sum(m.sum() for m in leaves) / sum(m.size for m in leaves)


def _train(method: Any, key: jax.Array, steps: int, widths: tuple[int, ...]) -> Any:
    (images, labels), test = digits()
    init_key, order_key, plan_key = jax.random.split(key, 3)
    params = init(init_key, widths)
    if isinstance(method, reparam.Reparam):
        latent = method.init(params, key=plan_key)
        tx = method.wrap(optax.adam(1.2e-3))
        realise = lambda latent, count: method.realise(latent, count=count)
        mask_of = lambda latent, state, count: method.mask(latent, count=count)
        start = latent, tx.init(latent)
    else:
        tx = jt.sparsify(optax.adam(1.2e-3), method, key=plan_key)
        realise = lambda params, count: params
        mask_of = lambda params, state, count: jt.mask_of(state)
        start = jt.init(tx, params)

    def step(carry: Any, i: jax.Array) -> Any:
        params, state, explored = carry
        rows = jax.random.randint(jax.random.fold_in(order_key, i), (BATCH,), 0, 1200)
        grads = jax.grad(lambda params: loss(realise(params, i), (images[rows], labels[rows])))(params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        explored = jax.tree.map(jnp.logical_or, explored, mask_of(params, state, i))
        return (params, state, explored), None

    (params, state, explored), _ = jax.lax.scan(step, (*start, mask_of(*start, 0)), jnp.arange(steps))
    return accuracy(realise(params, steps), test), mask_of(params, state, steps), explored


def gap(better: Run, worse: Run) -> tuple[float, float]:
    """Mean and half the 95 % interval of the paired difference, in points: the same weights and order of examples."""
    return diagnostics.interval((better.accuracy - worse.accuracy).tolist())


def report(**runs: Run) -> None:
    for name, run in runs.items():
        print(f"{name}: {run}, kept {run.kept[0]}, explored {run.exploration:.3f}")
