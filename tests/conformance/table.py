"""What the conformance matrix crosses. To add a plan, an optimizer or a framework, add one line to its table."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jaxticket as jt
from tests.conformance import drivers

STEPS = 8
EVERY = 3  # a refresh now and then, with plain steps before and after it
DENSITIES = (0.5, 1.0)
DTYPES = ("float32", "bfloat16", "float16")


class Plan(NamedTuple):
    """A plan by its density, and the law of densities it promises: (params, density, count) -> density by leaf.

    A number in place of a tree of them is the density of all leaves together. `count` is that of the last step.
    `reborn`: a weight may be newborn although it was alive before, since a refresh drops it for good and grows it.
    """

    make: Callable[[float], jt.Plan]
    density: Callable[[Any, float, int], Any]
    regrows: bool = False
    reborn: bool = False


def _same(params: Any, density: float, count: int) -> Any:
    return jax.tree.map(lambda _: density, params)


def _cubic(params: Any, density: float, count: int) -> Any:
    done = min(count // EVERY * EVERY / (2 * EVERY), 1.0)
    return _same(params, density + (1 - density) * (1 - done) ** 3, count)


def _erk(params: Any, density: float, count: int) -> Any:
    return jt.allocate.erk(params, density)


def _total(params: Any, density: float, count: int) -> Any:
    return density


def _cubic_total(initial: float) -> Callable[[Any, float, int], Any]:
    def law(params: Any, density: float, count: int) -> Any:
        done = min(count // EVERY * EVERY / (2 * EVERY), 1.0)
        return density + (max(initial, density) - density) * (1 - done) ** 3

    return law


def _cubic_of_each(initial: float) -> Callable[[Any, float, int], Any]:
    return lambda params, density, count: _same(params, _cubic_total(initial)(params, density, count), count)


def _phases(params: Any, density: float, count: int) -> Any:
    return density if 2 <= count < 4 or count >= 6 else 1.0


def _at_the_end(params: Any, density: float, count: int) -> Any:
    return _same(params, density if count >= 2 * EVERY else 1.0, count)


PLANS = {
    "static": Plan(jt.static, _same),
    "gradual": Plan(lambda d: jt.gradual(d, stop=2 * EVERY, every=EVERY), _cubic),
    "sparse_evolutionary": Plan(lambda d: jt.sparse_evolutionary(d, every=EVERY), _erk, regrows=True),
    "rigl": Plan(lambda d: jt.rigl(d, stop=10 * STEPS, every=EVERY), _erk, regrows=True),
}

# Recombinations of the same parts. Each meets every framework, dtype and a few optimizers; the product is `slow`.
_long = {"stop": 10 * STEPS, "every": EVERY}
RECOMBINED = {
    "global_mp": Plan(
        lambda d: jt.gradual(d, stop=2 * EVERY, every=EVERY, scope=jt.scopes.tree(), minimum=3), _cubic_total(1.0)
    ),
    "snfs": Plan(lambda d: jt.snfs(d, **_long), _total, regrows=True),
    "itop": Plan(lambda d: jt.itop(d, steps=10 * STEPS, every=EVERY), _erk, regrows=True),
    "itop_unfired": Plan(
        lambda d: jt.itop(d, steps=10 * STEPS, every=EVERY, grow=jt.scores.unfired), _erk, regrows=True
    ),
    "set_by_sign": Plan(
        lambda d: jt.sparse_evolutionary(d, every=EVERY, removal="sign", allocate=None),
        _same,
        regrows=True,
        reborn=True,
    ),
    "granet": Plan(
        lambda d: jt.granet(d, initial=max(d, 0.75), stop=2 * EVERY, steps=10 * STEPS, every=EVERY),
        _cubic_total(0.75),
        regrows=True,
        reborn=True,
    ),
    "granet_uniform": Plan(
        lambda d: jt.granet_uniform(d, initial=max(d, 0.75), stop=2 * EVERY, steps=10 * STEPS, every=EVERY),
        _cubic_of_each(0.75),
        regrows=True,
        reborn=True,
    ),
    "mest": Plan(lambda d: jt.mest(d, **_long), _total, regrows=True, reborn=True),
    "mest_soft": Plan(
        lambda d: jt.mest(d, **_long, drop_fraction=0.0, excess=0.5),
        lambda params, density, count: _same(params, min(1.5 * density, 1.0), count),
        regrows=True,
        reborn=True,
    ),
    "ac_dc": Plan(lambda d: jt.ac_dc(d, steps=STEPS, compress=(0.25, 0.75), decompress=(0.5,)), _phases, regrows=True),
    "iss_p": Plan(lambda d: jt.iss_p(d, stop=2 * EVERY), _at_the_end),
    "n_m_set": Plan(
        lambda d: jt.sparse_evolutionary(d, every=EVERY, scope=jt.scopes.groups(4), allocate=None), _same, regrows=True
    ),
    "block_rigl": Plan(lambda d: jt.rigl(d, unit=jt.units.block(2, 2), allocate=None, **_long), _same, regrows=True),
    "channel_rigl": Plan(lambda d: jt.rigl(d, unit=jt.units.axis(-1), allocate=None, **_long), _same, regrows=True),
}

CONSTRAINTS = {"keep_params_sparse": jt.keep_params_sparse, "freeze": jt.freeze}


class Optimizer(NamedTuple):
    """An optax optimizer: what stands inside the sparse transform, and what around it.

    elementwise: no weight's update depends on another weight's gradient, so masking the gradients goes unnoticed.
    dtypes: those in which the optimizer by itself stays finite.
    """

    inner: Callable[[], optax.GradientTransformation]
    outer: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda tx: tx
    elementwise: bool = True
    dtypes: tuple[str, ...] = DTYPES


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim == 2, params)


def _kinds(params: Any) -> Any:
    return jax.tree.map(lambda p: "matrix" if p.ndim == 2 else "vector", params)


_decay = optax.linear_schedule(1e-2, 1e-3, STEPS)

OPTIMIZERS = {
    "sgd": Optimizer(lambda: optax.sgd(1e-2)),
    "momentum": Optimizer(lambda: optax.sgd(1e-2, momentum=0.9, nesterov=True)),
    "adam": Optimizer(lambda: optax.adam(1e-2)),
    "adamw_schedule": Optimizer(lambda: optax.adamw(_decay, weight_decay=0.1)),
    "clip_adam": Optimizer(lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)), elementwise=False),
    "lion": Optimizer(lambda: optax.lion(1e-2, weight_decay=0.1)),
    "rmsprop": Optimizer(lambda: optax.rmsprop(1e-2, momentum=0.9)),
    "adafactor": Optimizer(lambda: optax.adafactor(1e-2, min_dim_size_to_factor=4), elementwise=False),
    "lamb": Optimizer(lambda: optax.lamb(1e-2, weight_decay=0.1), elementwise=False),
    "adabelief": Optimizer(lambda: optax.adabelief(1e-2)),
    "nadam": Optimizer(lambda: optax.nadam(1e-2)),
    "inject_hyperparams": Optimizer(
        lambda: optax.inject_hyperparams(optax.adam)(learning_rate=_decay),
        dtypes=("float32", "float16"),  # it gives b2 = 0.999 the dtype of the parameters, and in bfloat16 that is 1
    ),
    "multi_transform": Optimizer(
        lambda: optax.multi_transform({"matrix": optax.adam(1e-2), "vector": optax.sgd(1e-2, momentum=0.9)}, _kinds)
    ),
    "masked": Optimizer(
        lambda: optax.chain(optax.masked(optax.add_decayed_weights(0.1), _matrices), optax.sgd(1e-2, momentum=0.9))
    ),
    "multi_steps": Optimizer(
        lambda: optax.adam(1e-2), lambda tx: optax.MultiSteps(tx, every_k_schedule=2).gradient_transformation()
    ),
    "apply_if_finite": Optimizer(lambda: optax.adam(1e-2), lambda tx: optax.apply_if_finite(tx, 2)),
    "muon": Optimizer(lambda: optax.contrib.muon(1e-2, weight_decay=0.1), elementwise=False),
    "ema": Optimizer(lambda: optax.chain(optax.adam(1e-2), optax.ema(0.9))),
    "schedule_free": Optimizer(lambda: optax.contrib.schedule_free(optax.sgd(1e-2), learning_rate=1e-2)),
}


class Framework(NamedTuple):
    """A two-layer perceptron, 6 → 4 → 8: how the framework makes it, and how a training loop steps it."""

    make: Callable[[], Any]
    driver: type[drivers.Driver] = drivers.Tree


class _Linen(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(8)(nn.relu(nn.Dense(4)(x)))


class _Nnx(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(6, 4, rngs=rngs), nnx.Linear(4, 8, rngs=rngs)])


def _dict() -> Any:
    keys = jax.random.split(jax.random.key(0))
    return [
        {"kernel": jax.random.normal(key, shape), "bias": jnp.zeros(shape[1:])}
        for key, shape in zip(keys, [(6, 4), (4, 8)], strict=True)
    ]


def _linen() -> Any:
    return _Linen().init(jax.random.key(0), jnp.ones((1, 6)))["params"]


def _haiku() -> Any:
    return hk.transform(lambda x: hk.nets.MLP([4, 8])(x)).init(jax.random.key(0), jnp.ones((1, 6)))


def _equinox() -> Any:
    return eqx.filter(eqx.nn.MLP(6, 8, 4, depth=1, key=jax.random.key(0)), eqx.is_inexact_array)


FRAMEWORKS = {
    "dict": Framework(_dict),
    "linen": Framework(_linen),
    "nnx_state": Framework(lambda: nnx.state(_Nnx(), nnx.Param)),
    "nnx_optimizer": Framework(_Nnx, drivers.NnxOptimizer),
    "haiku": Framework(_haiku),
    "equinox": Framework(_equinox),
}
