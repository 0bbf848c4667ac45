"""Reparametrisations: at every step, parameters are computed from latent ones, which are trained."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxticket import _tree, filters
from jaxticket._checks import check_array
from jaxticket.typing import Density, Filter, Mask, Params, PyTree, Schedule


class Reparam(NamedTuple):
    """Parameters as a function of latent ones, to differentiate through: loss(reparam.realise(latent, count=step)).

    Attributes:
      init: (params, key) -> latent: the latent parameters that begin at `params`. The key may be None where none is
        needed.
      realise: (latent, *, count, key=None) -> params of the same structure and shapes. Masked ones are exact zeros;
        where masks are soft, from the end of the method's schedule on. `count` is the number of steps so far (int32
        scalar).
      mask: (latent, *, count) -> the mask of the kept weights: with the realised parameters it is the ticket to export.
      wrap: inner -> the optax transform of the latent parameters, for methods that do more than follow their gradient.
    """

    init: Callable[..., PyTree]
    realise: Callable[..., Params]
    mask: Callable[..., Mask]
    wrap: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda inner: inner


def export(reparam: Reparam, latent: PyTree, *, count: Any, key: Any = None) -> tuple[Params, Mask]:
    """Return the parameters that the latent ones stand for, with exact zeros, and the mask of the kept weights.

    Both come from `realise` and `mask` at the same step. They form a plain masked tree, as every ticket:
    `Ticket(*export(...))`.

    Args:
      reparam: the method.
      latent: its latent parameters.
      count: the number of steps so far.
      key: a typed PRNG key for `realise`, or None.

    Returns:
      The parameters and the mask.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import reparam
      >>> ste = reparam.straight_through(0.5)
      >>> export(ste, ste.init({"w": jnp.array([[1.0, 3.0]])}), count=0)[0]
      {'w': Array([[0., 3.]], dtype=float32)}
    """
    return reparam.realise(latent, count=count, key=key), reparam.mask(latent, count=count)


class Latent(NamedTuple):
    """Latent parameters of several kinds. Each field is a group, which may have its own optimizer in `optax.partition`.

    Attributes:
      weights: the structure of the parameters.
      learned: the scores, gates, thresholds or factors that are learned beside the weights; None where there are none.
      constants: the values that stay as they were made.
    """

    weights: Params
    learned: PyTree
    constants: PyTree = ()


def groups(latent: Latent) -> Latent:
    """Return the name of its field for every leaf: labels for `optax.partition`.

    Examples:
      >>> import optax
      >>> groups(Latent({"w": 1.0}, {"w": 2.0}))
      Latent(weights={'w': 'weights'}, learned={'w': 'learned'}, constants=())
      >>> tx = optax.partition({"weights": optax.sgd(0.1), "learned": optax.adam(1e-3)}, groups)
    """
    return Latent(*(jax.tree.map(lambda _, name=name: name, tree) for name, tree in latent._asdict().items()))


def trains(*trained: str) -> Callable[[optax.GradientTransformation], optax.GradientTransformation]:
    """Return the `wrap` that trains these groups of a `Latent`, all with one optimizer, and holds the others."""

    def wrap(inner: optax.GradientTransformation) -> optax.GradientTransformation:
        return optax.partition(
            {name: inner if name in trained else optax.set_to_zero() for name in Latent._fields}, groups
        )

    return wrap


def copy_params(params: Params) -> Params:
    """Copy every leaf into a new buffer, so that donating the latent parameters leaves the user's valid."""
    return jax.tree.map(lambda p: jnp.array(p, copy=True), params)


def only_real(params: Params, where: Filter) -> Params:
    """Return the parameters that are sparsified. Raises InputError for complex ones, whose gates would be complex."""
    chosen = filters.only(params, where)
    _tree.map_present(lambda p, name: check_array(f"params at {name!r}", p, np.floating), chosen, _tree.names(chosen))
    return chosen


def density_at(density: Density | Schedule, count: Any) -> Density:
    """Return the density that is due at a step."""
    return density(jnp.asarray(count)) if callable(density) else density


def silence(p: jax.Array) -> jax.Array:
    """Return exact zeros, for finite `p`, through which the gradient passes as if they were `p`."""
    return p - jax.lax.stop_gradient(p)
