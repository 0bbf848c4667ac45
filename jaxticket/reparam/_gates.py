"""Gates that are learned beside the weights, by which they are multiplied."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, scores
from jaxticket._checks import check_number
from jaxticket.errors import InputError
from jaxticket.reparam._base import Latent, Reparam, copy_params, only_real
from jaxticket.typing import Filter, Key, Mask, Params, SoftMask
from jaxticket.units import Unit

Wrap = Callable[[optax.GradientTransformation], optax.GradientTransformation]


def gate_weights(
    initial: float,
    gate: Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array],
    *,
    kept: Callable[[jax.Array], jax.Array],
    unit: Unit,
    where: Filter,
    wrap: Wrap = lambda inner: inner,
) -> Reparam:
    """Multiply weights by gate(learned, count, noise) in [0, 1], one a unit; the mask is where kept(learned) holds."""

    def init(params: Params, *, key: Key | None = None) -> Latent:
        del key
        pooled = unit.pool(only_real(params, where))
        return Latent(copy_params(params), _tree.map_present(lambda u: jnp.full_like(u, initial, jnp.float32), pooled))

    def mask(latent: Latent, *, count: Any) -> Mask:
        del count
        return unit.expand(_tree.map_present(kept, jax.lax.stop_gradient(latent.learned)), latent.weights)

    def realise(latent: Latent, *, count: Any, key: Key | None = None) -> Params:
        noise = _tree.tree_map(lambda s: None, latent.learned)
        if key is not None:
            noise = scores.random(latent.learned, key=key)
        gates = _tree.tree_map(
            lambda s, u: None if s is None else gate(s, jnp.asarray(count), u), latent.learned, noise
        )

        def apply_gate(p: jax.Array, g: jax.Array | None) -> jax.Array:
            return p if g is None else jnp.where(g > 0, (g * p).astype(p.dtype), 0)

        return _tree.tree_map(apply_gate, latent.weights, unit.expand(gates, latent.weights))

    return Reparam(init, realise, mask, wrap)


def open_weights(gates: SoftMask, latent: Latent, unit: Unit) -> jax.Array:
    """Return the sum of the gates, each times the number of weights that share it."""
    gated = _tree.tree_map(lambda g, p: None if g is None else p, gates, latent.weights)
    weighted = _tree.map_present(lambda g, n: jnp.sum(g * n), gates, unit.cost(gated))
    return sum(jax.tree.leaves(weighted), start=jnp.float32(0))


def check_hardening(*, stop: int, temperature: float = 1.0) -> None:
    check_number(stop=stop, temperature=temperature)
    if not stop >= 1:
        raise InputError(f"stop={stop} must be 1 or more; it is the step from which gates are hard.")
    if not 1 <= temperature < math.inf:
        raise InputError(f"temperature={temperature} must be at least 1; the gates begin at 1 and steepen to 200.")
