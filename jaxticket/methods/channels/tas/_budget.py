"""The expected cost of logits, the penalty that pulls it to the target, and the choice in the end."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_fraction
from jaxticket.methods.channels.tas._sample import Choices, Logits, probabilities, usable
from jaxticket.methods.channels.tas._supernet import Supernet


def expect_widths(logits: jax.Array, rows: Choices) -> jax.Array:
    """Return the expected value of each row: Σ softmax(logits) · choice, without noise or temperature.

    Args:
      logits: (rows, choices).
      rows: the choices of each row.

    Returns:
      (rows,) expected values.

    Raises:
      InputError: no rows, a row without choices, or logits of another shape.

    Examples:
      >>> round(expect_widths(jnp.log(jnp.array([[0.2, 0.8]])), [(4, 16)]).item(), 4)
      13.6
    """
    return jnp.sum(probabilities(logits, rows) * _values(rows), axis=1)


def alive(logits: jax.Array, rows: Choices) -> list[jax.Array]:
    """Return for each stage the chance that each of its blocks is there: that the depth is at least its number.

    Args:
      logits: (stages, depths).
      rows: the depths of each stage, rising.

    Returns:
      For each stage, (blocks,) chances.

    Raises:
      InputError: no rows, a row without choices, or logits of another shape.

    Examples:
      >>> [p.tolist() for p in alive(jnp.log(jnp.array([[0.25, 0.25, 0.5]])), [(1, 2, 3)])]
      [[1.0, 0.75, 0.5]]
    """
    chances = probabilities(logits, rows)
    return [
        jnp.stack([jnp.sum(jnp.where(values >= number, p, 0)) for number in range(1, max(row) + 1)])
        for p, values, row in zip(chances, _values(rows), rows, strict=True)
    ]


def penalise(expected: jax.Array, now: jax.Array, *, target: float, tolerance: float) -> jax.Array:
    """Return the penalty of the expected cost: +log where the likeliest network costs more than the target.

    It is −log below the target less the tolerance, and 0 between. The tolerance is for costs below the target alone.

    Args:
      expected: the expected cost, in any unit: a change of it adds a constant.
      now: the cost of the likeliest network.
      target: in the unit of `now`.
      tolerance: the cost by which the likeliest network may stay below the target.

    Returns:
      A scalar.

    Examples:
      >>> [round(penalise(jnp.e, now, target=50, tolerance=5).item(), 3) for now in (50.1, 50.0, 45.0, 44.9)]
      [1.0, 0.0, 0.0, -1.0]
    """
    size = jnp.log(expected)
    return jnp.where(now > target, size, jnp.where(now < target - tolerance, -size, 0.0))


def likeliest(logits: Logits, net: Supernet) -> tuple[jax.Array, jax.Array]:
    """Return the likeliest width of each convolution and depth of each stage."""
    pick = lambda own, rows: jnp.take_along_axis(
        jnp.asarray(_values(rows)), jnp.argmax(probabilities(own, rows), axis=1)[:, None], axis=1
    )[:, 0]
    return pick(logits.widths, net.widths), pick(logits.depths, net.depths)


def choose(
    net: Supernet, logits: Logits, *, fraction: float, within: float | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the likeliest widths and depths; with `within`, after steps that meet the budget, which are ours.

    The paper takes the likeliest of each row, and accepts 5 % of the whole cost below the target. Where they miss the
    budget by more than `within`, the width of one convolution after the other changes. It is the change that loses
    least log-probability for what it brings the cost nearer to the target, until the budget is met, or none helps.

    Args:
      net: the supernet.
      logits: of its widths and depths.
      fraction: the budget, as a part of the whole network's cost.
      within: the part of the budget by which the cost may miss it; None takes the likeliest whatever they cost.

    Returns:
      The widths of all convolutions, and the numbers of blocks of all stages.

    Raises:
      InputError: parts outside [0, 1], or logits of another network.

    Examples:
      >>> from jaxticket.methods.channels.tas import init_logits, residual_supernet
      >>> net = residual_supernet(width=4, blocks=1, shape=(8, 8, 1))
      >>> logits = init_logits(net.widths, net.depths, key=jax.random.key(0))
      >>> widths, depths = choose(net, logits, fraction=0.5, within=0.02)
      >>> abs(net.cost(widths, depths) / net.cost([w[-1] for w in net.widths], depths) - 0.5) < 0.01
      True
    """
    check_fraction("fraction", fraction)
    widths, depths = (np.asarray(row).tolist() for row in likeliest(logits, net))
    if within is not None:
        check_fraction("within", within)
        _meet(net, np.asarray(jnp.log(probabilities(logits.widths, net.widths))), widths, depths, fraction, within)
    return tuple(widths), tuple(depths)


def _meet(
    net: Supernet, chances: np.ndarray, widths: list[int], depths: list[int], fraction: float, within: float
) -> None:
    """Change widths until the cost lies within the budget, or no change brings it nearer."""
    target = fraction * net.cost([row[-1] for row in net.widths], [row[-1] for row in net.depths])
    misses = lambda widths: abs(net.cost(widths, depths) - target)
    while (miss := misses(widths)) > within * target:
        changes = []
        for at, row in enumerate(net.widths):
            for to, width in enumerate(row):
                gain = miss - max(misses([*widths[:at], width, *widths[at + 1 :]]), within * target)
                if gain > 0:
                    lost = chances[at, row.index(widths[at])] - chances[at, to]
                    changes.append((lost / gain, at, width))
        if not changes:
            return
        _, at, widths[at] = min(changes)


def _values(rows: Choices) -> np.ndarray:
    """Return the choices as (rows, longest row), 0 where a row has none."""
    values = np.zeros(usable(rows).shape, np.int32)
    for row, own in zip(values, rows, strict=True):
        row[: len(own)] = own
    return values
