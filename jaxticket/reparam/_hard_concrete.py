"""L0 regularisation: random gates that are exactly 0 or 1 with positive probability.

The penalties are functions of the latent parameters:
`loss(method.realise(latent, count=step, key=key)) + strength * expected_l0(latent)`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters, units
from jaxticket._checks import check_number, known
from jaxticket.errors import InputError
from jaxticket.reparam._base import Latent, Reparam
from jaxticket.reparam._gates import check_hardening, gate_weights, open_weights
from jaxticket.transforms._constraints import require_params
from jaxticket.typing import Filter, SoftMask
from jaxticket.units import Unit

_LOW, _HIGH, _BETA = -0.1, 1.1, 2 / 3  # γ, ζ and β of Louizos et al. (2018)
_BOUND = math.log(100)  # of |log α| in the authors' code


def hard_concrete(
    *, stop: int, drop_rate: float = 0.5, unit: Unit = units.element(), where: Filter = filters.weights()
) -> Reparam:
    """Train random gates that are exactly 0 or 1 with positive probability: L0 regularisation (Louizos et al., 2018).

        g = clip((ζ − γ) σ((log u − log(1 − u) + log α) / β) + γ, 0, 1)

    γ = −0.1, ζ = 1.1, β = 2/3; u is uniform noise from the `key` that `realise` gets. Without a key, and from step
    `stop` on, it is the gate of the test time, clip((ζ − γ) σ(log α) + γ), which multiplies the weights that it keeps.
    `expected_l0` in the loss closes gates, and `expected_l2` decays weights. `wrap(inner)` keeps log α between −log 100
    and log 100 after each update, as the authors do: gates beyond hardly have a gradient.

    Args:
      stop: the step from which on gates are not random.
      drop_rate: the first probability of noise below zero. log α starts at log((1 − drop_rate) / drop_rate), the same
        for all (the authors add noise of 0.01).
      unit: weights that share a gate.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Raises:
      InputError: a stop below 1, or a drop rate outside (0, 1).

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> method = hard_concrete(stop=10)
      >>> latent = method.init({"w": jnp.array([[1.0, 3.0]])})
      >>> method.realise(latent, count=0)["w"], method.realise(latent, count=0, key=jax.random.key(1))["w"].shape
      (Array([[0.5, 1.5]], dtype=float32), (1, 2))
    """
    check_hardening(stop=stop)
    check_number(drop_rate=drop_rate)
    if not 0 < known(drop_rate) < 1:
        raise InputError(f"drop_rate={drop_rate} must lie between 0 and 1; 0.5 leaves every gate undecided.")

    def gate(log_alpha: jax.Array, count: jax.Array, noise: jax.Array | None) -> jax.Array:
        certain = _stretch(jax.nn.sigmoid(log_alpha))
        if noise is None:
            return certain
        sampled = _stretch(jax.nn.sigmoid((jnp.log(noise) - jnp.log1p(-noise) + log_alpha) / _BETA))
        return jnp.where(count < stop, sampled, certain)

    kept = lambda log_alpha: _stretch(jax.nn.sigmoid(log_alpha)) > 0
    drop_rate = known(drop_rate)
    return gate_weights(math.log((1 - drop_rate) / drop_rate), gate, kept=kept, unit=unit, where=where, wrap=_bounded)


def expected_l0(latent: Latent, *, unit: Unit = units.element()) -> jax.Array:
    """Return Σ P(gate > 0) = Σ σ(log α − β log(−γ / ζ)), the weights that `hard_concrete` is expected to keep.

    Add it to the loss times its strength, which the authors divide by the number of examples.

    Args:
      latent: the latent parameters.
      unit: as given to `hard_concrete`.

    Returns:
      A scalar.

    Examples:
      >>> import jax.numpy as jnp
      >>> latent = hard_concrete(stop=10).init({"w": jnp.array([[1.0, 3.0]])})
      >>> round(float(expected_l0(latent)), 4)
      1.6636
    """
    return open_weights(_open(latent), latent, unit)


def expected_l2(latent: Latent, *, unit: Unit = units.element()) -> jax.Array:
    """Return Σ P(gate > 0) w² / 2, the penalty whose strength is that of weight decay under `hard_concrete`.

    Weights without a gate count in full. The authors weigh the decay so: times its strength it takes the place of the
    optimizer's weight decay, which would draw weights behind closed gates to 0 as fast as others.

    Args:
      latent: the latent parameters.
      unit: as given to `hard_concrete`.

    Returns:
      A scalar.

    Examples:
      >>> import jax.numpy as jnp
      >>> latent = hard_concrete(stop=10).init({"w": jnp.array([[1.0, 3.0]])})
      >>> round(float(expected_l2(latent)), 4)  # 0.8318 of 5
      4.1591
    """
    spread = unit.expand(_open(latent), latent.weights)
    decay = lambda w, p: None if w is None else jnp.sum((1 if p is None else p) * jnp.square(w)) / 2
    return sum(jax.tree.leaves(_tree.tree_map(decay, latent.weights, spread)), start=jnp.float32(0))


def _open(latent: Latent) -> SoftMask:
    """Return the probability of each gate to be open."""
    shift = _BETA * math.log(-_LOW / _HIGH)
    return _tree.map_present(lambda s: jax.nn.sigmoid(s - shift), latent.learned)


def _bounded(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Let updates end where log α would leave its bounds."""
    inner = optax.with_extra_args_support(inner)

    def update(updates: Latent, state: Any, params: Latent | None = None, **extra: Any) -> tuple[Latent, Any]:
        params = require_params(params, "hard_concrete")
        updates, state = inner.update(updates, state, params, **extra)
        land = lambda s, u: jnp.clip(s + u, -_BOUND, _BOUND) - s
        return updates._replace(learned=_tree.map_present(land, params.learned, updates.learned)), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _stretch(x: jax.Array) -> jax.Array:
    return jnp.clip(x * (_HIGH - _LOW) + _LOW, 0, 1)
