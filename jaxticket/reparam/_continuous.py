"""Continuous sparsification: gates that harden, a penalty that closes them, and rounds.

The penalty is a function of the latent parameters:
`loss(method.realise(latent, count=step)) + strength * continuous_penalty(latent, ...)`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, units
from jaxticket._checks import check_number
from jaxticket.reparam._base import Latent, Reparam
from jaxticket.reparam._gates import check_hardening, gate_weights, open_weights
from jaxticket.typing import Filter
from jaxticket.units import Unit


def continuous_sparsification(
    *,
    stop: int,
    temperature: float = 200.0,
    initial: float = 0.0,
    unit: Unit = units.element(),
    where: Filter = filters.weights(),
) -> Reparam:
    """Learn a gate for each weight, whose sigmoid steepens until it is a step (CS; Savarese et al., 2020).

        p = θ · σ(βₜ s),   βₜ = β^min(t / T, 1)

    From step `stop` = T on, weights with s > 0 are kept and all others are zeros. `continuous_penalty` closes gates.
    The authors' code also divides all gates by the first one, which changes the weights' scale; this code does not.
    Between rounds of a search for tickets use `next_round`.
    `Latent.learned` holds s in the shape of the units, float32.

    Args:
      stop: T, the step from which on gates are hard.
      temperature: β, reached at `stop`.
      initial: s at the start: the larger, the denser (the authors' range is −0.3 to 0.3).
      unit: weights that share a gate.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Raises:
      InputError: a stop or a temperature below 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> method = continuous_sparsification(stop=10)
      >>> latent = method.init({"w": jnp.array([[1.0, 2.0]])})
      >>> latent = latent._replace(learned={"w": jnp.array([[-0.1, 0.1]])})
      >>> method.realise(latent, count=0)["w"].round(2), method.realise(latent, count=10)["w"]
      (Array([[0.48, 1.05]], dtype=float32), Array([[0., 2.]], dtype=float32))
    """
    check_hardening(stop=stop, temperature=temperature)

    def gate(s: jax.Array, count: jax.Array, noise: jax.Array | None) -> jax.Array:
        del noise
        soft = jax.nn.sigmoid(_steepness(count, stop=stop, temperature=temperature) * s)
        return jnp.where(count < stop, soft, s > 0)

    return gate_weights(initial, gate, kept=lambda s: s > 0, unit=unit, where=where)


def continuous_penalty(
    latent: Latent, *, count: Any, stop: int, temperature: float = 200.0, unit: Unit = units.element()
) -> jax.Array:
    """Return Σ σ(β s), in weights: the l1 norm of the gates of `continuous_sparsification`.

    Add it to the loss times its strength: 1e-8 for the authors' convolutional networks, more for smaller ones.

    Args:
      latent: the latent parameters.
      count: the number of steps so far.
      stop: as given to `continuous_sparsification`.
      temperature: as given there.
      unit: as given there.

    Returns:
      A scalar.

    Raises:
      InputError: a stop or a temperature below 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> latent = continuous_sparsification(stop=10).init({"w": jnp.array([[1.0, 3.0]])})
      >>> continuous_penalty(latent, count=0, stop=10)
      Array(1., dtype=float32)
    """
    check_hardening(stop=stop, temperature=temperature)
    steepness = _steepness(jnp.asarray(count), stop=stop, temperature=temperature)
    return open_weights(_tree.map_present(lambda s: jax.nn.sigmoid(steepness * s), latent.learned), latent, unit)


def next_round(latent: Latent, *, initial: float = 0.0, temperature: float = 200.0) -> Latent:
    """Return the latent parameters with which the next round begins: s ← min(β s, s₀) (Savarese et al., 2020).

    Gates that closed stay closed, all others are open again as at the start. Count the steps of each round from 0. A
    search trains on with the same weights. After the last round the mask is a ticket for the weights of the start, or
    of an early step. It is pure, for jit and vmap.

    Args:
      latent: the latent parameters at the end of a round.
      initial: s₀, as given to `continuous_sparsification`.
      temperature: β of the last step. The authors' code sets it to 1 before it prunes; there gates that closed begin
        the next round barely below the others.

    Returns:
      The latent parameters.

    Raises:
      InputError: a temperature below 1.

    Examples:
      >>> latent = Latent({"w": jnp.ones(2)}, {"w": jnp.array([-0.1, 0.7])})
      >>> next_round(latent).learned["w"]
      Array([-20.,   0.], dtype=float32)
    """
    check_number(initial=initial)
    check_hardening(stop=1, temperature=temperature)
    shrink = lambda s: jnp.minimum(temperature * s, initial).astype(s.dtype)
    return latent._replace(learned=_tree.map_present(shrink, latent.learned))


def _steepness(count: jax.Array, *, stop: int, temperature: float) -> jax.Array:
    return jnp.float32(temperature) ** (jnp.clip(count, 0, stop) / stop)
