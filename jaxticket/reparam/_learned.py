"""Thresholds and gates that are learned beside the weights. A penalty in the loss decides the sparsity.

The penalties are functions of the latent parameters beside each method:
`loss(method.realise(latent, count=step)) + strength * penalty(latent, ...)`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, scores, units
from jaxticket._checks import check_number, known
from jaxticket.errors import InputError
from jaxticket.reparam._base import Latent, Reparam, copy_params
from jaxticket.typing import Filter, Key, Mask, Params, SoftMask
from jaxticket.units import Unit

_LOW, _HIGH, _BETA = -0.1, 1.1, 2 / 3  # γ, ζ and β of Louizos et al. (2018)


def soft_threshold(*, initial: float = -5.0, where: Filter = filters.weights()) -> Reparam:
    """Learn a threshold for each leaf, by which all its weights shrink (STR; Kusupati et al., 2020).

        p = sign(θ) · max(|θ| − σ(s), 0)

    `Latent.learned` holds one s for each leaf, float32. Without `threshold_decay` (or weight decay in the optimizer of
    the group "learned") nothing draws s up from where it starts. Masked weights are exact zeros at every step.

    Args:
      initial: s at the start; its sigmoid should lie below most weights.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Examples:
      >>> import jax.numpy as jnp
      >>> method = soft_threshold(initial=0.0)
      >>> method.realise(method.init({"w": jnp.array([[1.0, -3.0, 0.5]])}), count=0)["w"]
      Array([[ 0.5, -2.5,  0. ]], dtype=float32)
    """

    def init(params: Params, *, key: Key | None = None) -> Latent:
        del key
        first = lambda p: jnp.full((1,) * p.ndim, initial, jnp.float32)
        chosen = filters.only(params, where)
        return Latent(copy_params(params), _tree.map_present(first, chosen))

    def mask(latent: Latent, *, count: Any) -> Mask:
        del count
        above = lambda s, p: jnp.abs(p) > jax.nn.sigmoid(s).astype(p.dtype)
        return _tree.map_present(above, *jax.lax.stop_gradient((latent.learned, latent.weights)))

    def realise(latent: Latent, *, count: Any, key: Key | None = None) -> Params:
        del key

        def shrink(p: jax.Array, s: jax.Array | None, kept: jax.Array | None) -> jax.Array:
            if s is None or kept is None:
                return p
            return jnp.where(kept, p - jnp.sign(p) * jax.nn.sigmoid(s).astype(p.dtype), 0)

        return _tree.tree_map(shrink, latent.weights, latent.learned, mask(latent, count=count))

    return Reparam(init, realise, mask)


def threshold_decay(latent: Latent) -> jax.Array:
    """Return Σ s² / 2 over leaves, the penalty whose gradient is weight decay on the thresholds of `soft_threshold`.

    Times its strength it prunes: it draws s from far below zero towards 0. The authors decay s and the weights alike,
    with SGD. Steps of Adam do not depend on the size of a gradient: there the decay is strong whenever it is stronger
    than the loss.

    Examples:
      >>> import jax.numpy as jnp
      >>> method = soft_threshold(initial=-4.0)
      >>> threshold_decay(method.init({"a": {"w": jnp.ones((1, 2))}, "b": {"w": jnp.ones((2, 2))}}))
      Array(16., dtype=float32)
    """
    return sum((jnp.sum(s * s) for s in jax.tree.leaves(latent.learned)), start=jnp.float32(0)) / 2


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
    _check_hardening(stop=stop, temperature=temperature)

    def gate(s: jax.Array, count: jax.Array, noise: jax.Array | None) -> jax.Array:
        del noise
        soft = jax.nn.sigmoid(_steepness(count, stop=stop, temperature=temperature) * s)
        return jnp.where(count < stop, soft, s > 0)

    return _gate_weights(initial, gate, kept=lambda s: s > 0, unit=unit, where=where)


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
    _check_hardening(stop=stop, temperature=temperature)
    steepness = _steepness(jnp.asarray(count), stop=stop, temperature=temperature)
    return _open_weights(_tree.map_present(lambda s: jax.nn.sigmoid(steepness * s), latent.learned), latent, unit)


def hard_concrete(
    *, stop: int, drop_rate: float = 0.5, unit: Unit = units.element(), where: Filter = filters.weights()
) -> Reparam:
    """Train random gates that are exactly 0 or 1 with positive probability: L0 regularisation (Louizos et al., 2018).

        g = clip((ζ − γ) σ((log u − log(1 − u) + log α) / β) + γ, 0, 1)

    γ = −0.1, ζ = 1.1, β = 2/3; u is uniform noise from the `key` that `realise` gets. Without a key, and from step
    `stop` on, it is the gate of the test time, clip((ζ − γ) σ(log α) + γ), which multiplies the weights that it keeps.
    `expected_l0` in the loss closes gates.

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
    _check_hardening(stop=stop)
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
    return _gate_weights(math.log((1 - drop_rate) / drop_rate), gate, kept=kept, unit=unit, where=where)


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
    shift = _BETA * math.log(-_LOW / _HIGH)
    return _open_weights(_tree.map_present(lambda s: jax.nn.sigmoid(s - shift), latent.learned), latent, unit)


def _gate_weights(
    initial: float,
    gate: Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array],
    *,
    kept: Callable[[jax.Array], jax.Array],
    unit: Unit,
    where: Filter,
) -> Reparam:
    """Multiply weights by gate(learned, count, noise) in [0, 1], one a unit; the mask is where kept(learned) holds."""

    def init(params: Params, *, key: Key | None = None) -> Latent:
        del key
        pooled = unit.pool(filters.only(params, where))
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

    return Reparam(init, realise, mask)


def _open_weights(gates: SoftMask, latent: Latent, unit: Unit) -> jax.Array:
    """Return the sum of the gates, each times the number of weights that share it."""
    gated = _tree.tree_map(lambda g, p: None if g is None else p, gates, latent.weights)
    weighted = _tree.map_present(lambda g, n: jnp.sum(g * n), gates, unit.cost(gated))
    return sum(jax.tree.leaves(weighted), start=jnp.float32(0))


def _steepness(count: jax.Array, *, stop: int, temperature: float) -> jax.Array:
    return jnp.float32(temperature) ** (jnp.clip(count, 0, stop) / stop)


def _stretch(x: jax.Array) -> jax.Array:
    return jnp.clip(x * (_HIGH - _LOW) + _LOW, 0, 1)


def _check_hardening(*, stop: int, temperature: float = 1.0) -> None:
    check_number(stop=stop, temperature=temperature)
    if not stop >= 1:
        raise InputError(f"stop={stop} must be 1 or more; it is the step from which gates are hard.")
    if not 1 <= temperature < math.inf:
        raise InputError(f"temperature={temperature} must be at least 1; the gates begin at 1 and steepen to 200.")
