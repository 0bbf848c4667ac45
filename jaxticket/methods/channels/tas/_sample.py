"""The logits of widths and depths, and the draws of a step."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_key, check_number, known
from jaxticket.errors import InputError
from jaxticket.typing import Key

_SPREAD = 0.01  # the standard deviation of fresh logits
_LEAST = 1e-7  # added to each probability before two are drawn, as the authors do

Choices = Sequence[Sequence[int]]  # for each row of logits, the values among which it chooses


class Logits(NamedTuple):
    """Logits with a row for each convolution and for each stage, in the order of the network.

    Attributes:
      widths: (convolutions, widths); a row with fewer choices than the longest has an unused end.
      depths: (stages, depths), likewise.
    """

    widths: jax.Array
    depths: jax.Array


class Draw(NamedTuple):
    """The widths and depths that a step draws.

    Attributes:
      pairs: (convolutions, 2) int32, the two widths of each convolution, as numbers of its choices.
      weights: (convolutions, 2), their weights, which add up to 1.
      depths: (stages, depths), the weights of the depths of each stage; 0 for the unused end of a row.
    """

    pairs: jax.Array
    weights: jax.Array
    depths: jax.Array


def init_logits(widths: Choices, depths: Choices, *, key: Key) -> Logits:
    """Return fresh logits, normal with a standard deviation of 0.01.

    Args:
      widths: the widths of each convolution.
      depths: the depths of each stage.
      key: of the random numbers.

    Returns:
      The logits.

    Raises:
      InputError: no rows, or a row without choices.

    Examples:
      >>> logits = init_logits([(2, 4), (1, 2, 3)], [(1, 2)], key=jax.random.key(0))
      >>> logits.widths.shape, logits.depths.shape
      ((2, 3), (1, 2))
    """
    check_key("key", key)
    first, second = jax.random.split(key)
    fresh = lambda rows, key: _SPREAD * jax.random.normal(key, usable(rows).shape)
    return Logits(fresh(widths, first), fresh(depths, second))


def usable(rows: Choices) -> np.ndarray:
    """Return (rows, longest row) bool: which logits stand for a choice."""
    lengths = np.array([len(row) for row in rows])
    if not len(lengths) or not lengths.all():
        raise InputError(f"choices={tuple(rows)} must be one row or more, none of them empty")
    return np.arange(max(lengths)) < lengths[:, None]


def only_choices(logits: jax.Array, rows: Choices) -> jax.Array:
    """Return the logits, −inf where a row has no choice."""
    used = usable(rows)
    if jnp.shape(logits) != used.shape:
        raise InputError(f"logits have the shape {jnp.shape(logits)}, but the choices {used.shape}")
    return jnp.where(used, logits, -jnp.inf)


def probabilities(logits: jax.Array, rows: Choices) -> jax.Array:
    """Return the softmax of each row over its choices, 0 elsewhere."""
    return jax.nn.softmax(only_choices(logits, rows))


def relax(logits: jax.Array, rows: Choices, *, key: Key, temperature: float | jax.Array) -> jax.Array:
    """Return a Gumbel-softmax sample of each row: softmax((log softmax(logits) + g) / temperature), g = −log Exp(1).

    Args:
      logits: (rows, choices).
      rows: the choices of each row.
      key: of the random numbers.
      temperature: above 0; the lower, the nearer is a sample to one choice.

    Returns:
      (rows, choices), each row of sum 1; 0 where a row has no choice.

    Raises:
      InputError: no rows, a row without choices, logits of another shape, or a temperature out of range.

    Examples:
      >>> relax(jnp.zeros((2, 2)), [(1, 2), (1,)], key=jax.random.key(0), temperature=1.0)[1].tolist()
      [1.0, 0.0]
    """
    return jax.nn.softmax(_perturb(logits, rows, key, temperature))


def draw_pairs(
    logits: jax.Array, rows: Choices, *, key: Key, temperature: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw two different choices of each row, one after the other, by the probabilities of a Gumbel-softmax sample.

    Their weights are the softmax of the two perturbed logits, through which alone the logits get a gradient.

    Args:
      logits: (rows, choices).
      rows: the choices of each row, two or more.
      key: of the random numbers.
      temperature: as in `relax`.

    Returns:
      (rows, 2) int32 numbers of choices in the order in which they are drawn, and their (rows, 2) weights.

    Raises:
      InputError: as `relax`, and a row of less than two choices.

    Examples:
      >>> pairs, weights = draw_pairs(jnp.zeros((1, 2)), [(4, 8)], key=jax.random.key(0), temperature=1.0)
      >>> sorted(pairs[0].tolist()), round(float(weights.sum()), 5)
      ([0, 1], 1.0)
    """
    if min(map(len, rows), default=0) < 2:
        raise InputError(f"choices={tuple(rows)} must be rows of two choices or more, since two are drawn of each")
    noise, order = jax.random.split(key)
    perturbed = _perturb(logits, rows, noise, temperature)
    chances = jnp.where(usable(rows), jnp.log(jax.nn.softmax(perturbed) + _LEAST), -jnp.inf)
    # The two largest of log p + Gumbel are two draws without replacement.
    _, pairs = jax.lax.top_k(jax.lax.stop_gradient(chances) + jax.random.gumbel(order, chances.shape), 2)
    return pairs, jax.nn.softmax(jnp.take_along_axis(perturbed, pairs, axis=1))


def draw(logits: Logits, widths: Choices, depths: Choices, *, key: Key, temperature: float | jax.Array) -> Draw:
    """Draw two widths of each convolution, and the weights of all depths of each stage.

    Args:
      logits: of widths and depths.
      widths: the widths of each convolution.
      depths: the depths of each stage.
      key: of the random numbers.
      temperature: as in `relax`.

    Returns:
      The draw.

    Raises:
      InputError: as `draw_pairs` and `relax`.

    Examples:
      >>> rows = [(2, 4)], [(1, 2, 3)]
      >>> logits = init_logits(*rows, key=jax.random.key(0))
      >>> draw(logits, *rows, key=jax.random.key(1), temperature=5.0).depths.shape
      (1, 3)
    """
    first, second = jax.random.split(key)
    pairs, weights = draw_pairs(logits.widths, widths, key=first, temperature=temperature)
    return Draw(pairs, weights, relax(logits.depths, depths, key=second, temperature=temperature))


def _perturb(logits: jax.Array, rows: Choices, key: Key, temperature: float | jax.Array) -> jax.Array:
    """Return (log softmax(logits) + g) / temperature, −inf where a row has no choice."""
    check_number(temperature=temperature)
    if not isinstance(temperature, jax.core.Tracer) and not 0 < known(temperature) < math.inf:
        raise InputError(f"temperature={temperature} must be above 0, such as 5")
    check_key("key", key)
    return (jax.nn.log_softmax(only_choices(logits, rows)) + jax.random.gumbel(key, logits.shape)) / temperature
