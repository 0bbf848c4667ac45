"""What a reparametrisation is: parameters computed, at every step, from the latent ones that are trained."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket.typing import Density, Mask, Params, PyTree, Schedule


class Reparam(NamedTuple):
    """Parameters as a function of latent ones, to differentiate through: loss(reparam.realise(latent, count=step)).

    Attributes:
      init: (params, key) -> latent. The latent parameters that begin at `params`; key may be None where none is needed.
      realise: (latent, *, count, key=None) -> params. Their structure and shapes; masked ones are exact zeros, where
        masks are soft, from the end of the method's schedule on. `count` is the number of steps so far (int32 scalar).
      mask: (latent, *, count) -> Mask of what is kept: with the realised parameters it is the ticket to export.
      wrap: inner -> optax transform of the latent parameters, where the method says more than their gradient does.
    """

    init: Callable[..., PyTree]
    realise: Callable[..., Params]
    mask: Callable[..., Mask]
    wrap: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda inner: inner


def export(reparam: Reparam, latent: PyTree, *, count: Any, key: Any = None) -> tuple[Params, Mask]:
    """The parameters that the latent ones stand for, with exact zeros, and the mask of what is kept.

    A plain masked tree, as every ticket is: `Ticket(*export(...))`. Of `realise` and `mask` at the same step.

    >>> import jax.numpy as jnp
    >>> from jaxticket import reparam
    >>> ste = reparam.straight_through(0.5)
    >>> export(ste, ste.init({"w": jnp.array([[1.0, 3.0]])}), count=0)[0]
    {'w': Array([[0., 3.]], dtype=float32)}
    """
    return reparam.realise(latent, count=count, key=key), reparam.mask(latent, count=count)


class Latent(NamedTuple):
    """Latent parameters of several kinds; each field is a group, for which `optax.partition` may have an optimizer.

    Attributes:
      weights: structure of the parameters.
      learned: what the method learns beside them: scores, gates, thresholds, factors; None where it has nothing.
      constants: what stays as it was made.
    """

    weights: Params
    learned: PyTree
    constants: PyTree = ()


def groups(latent: Latent) -> Latent:
    """The name of its field for every leaf: labels for `optax.partition`.

    >>> import optax
    >>> groups(Latent({"w": 1.0}, {"w": 2.0}))
    Latent(weights={'w': 'weights'}, learned={'w': 'learned'}, constants=())
    >>> tx = optax.partition({"weights": optax.sgd(0.1), "learned": optax.adam(1e-3)}, groups)
    """
    return Latent(*(jax.tree.map(lambda _, name=name: name, tree) for name, tree in latent._asdict().items()))


def trains(*trained: str) -> Callable[[optax.GradientTransformation], optax.GradientTransformation]:
    """The `wrap` of a method that trains these groups of its `Latent`, all with one optimizer, and holds the others."""

    def wrap(inner: optax.GradientTransformation) -> optax.GradientTransformation:
        return optax.partition(
            {name: inner if name in trained else optax.set_to_zero() for name in Latent._fields}, groups
        )

    return wrap


def copy_params(params: Params) -> Params:
    """A new buffer for every leaf, so that donating the latent parameters leaves the user's valid."""
    return jax.tree.map(lambda p: jnp.array(p, copy=True), params)


def density_at(density: Density | Schedule, count: Any) -> Density:
    """The density that is due at a step."""
    return density(jnp.asarray(count)) if callable(density) else density


def silenced(p: jax.Array) -> jax.Array:
    """Exact zeros, for finite `p`, through which the gradient passes as if they were `p`."""
    return p - jax.lax.stop_gradient(p)
