"""Widths by the objective that SynFlow has on average, under random masks."""

import numpy as np
from scipy import optimize

from jaxticket import filters
from jaxticket.methods.channels.precrop._program import (
    Cost,
    Program,
    log_slope,
    make_program,
    round_widths,
    sizes_of,
)
from jaxticket.structure import Groups
from jaxticket.typing import Filter, Params

_STARTS, _INWARDS = 6, 0.1  # of the optimisation; logarithm of widths by which the next one starts within the budget


def precrop(
    params: Params,
    groups: Groups,
    fraction: float,
    *,
    cost: Cost = "params",
    grow: bool = False,
    where: Filter = filters.weights(),
) -> dict[str, int]:
    """Return the widths at which the layers of a network together are densest within a budget (PreCrop).

    The expected objective of SynFlow under random masks is the product of the densities of layers. Here the ratio of
    each group is a variable, and a layer is as dense as the ratios of its inputs and outputs: the sum of the logarithms
    of all densities is made largest. That is a convex program unless an axis holds, beside a group, other groups or
    channels that cannot go; then other widths may be better than those returned. Published formulas are known from
    versions of the paper and from reviews only; the paper's rule where neighbours disagree was not seen, and this
    program needs none.

    Which channels stay is irrelevant before training. Take the first ones, and shrink:

        kept = {group.name: np.arange(group.width) < widths[group.name] for group in groups}
        smaller = structure.shrink(params, kept, groups)

    Args:
      params: the traced variables; only shapes count.
      groups: what `structure.trace` returned.
      fraction: of the cost of the whole network that is kept, in (0, 1].
      cost: "params" counts the entries of all leaves, "macs" the multiply-adds.
      grow: whether groups may get wider than they are (PreConfig); build a network of these widths.
      where: the layers, whose densities count.

    Returns:
      name of a group -> width, at least 1. Rounding exceeds the budget by 1 % at most. Inexact groups take part.

    Raises:
      InputError: a fraction outside (0, 1], another cost, no layer with channels, or a budget that cannot be met; the
        message says what is least.

    References:
      PreCropping (2022), arXiv 2203.02549.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure
      >>> from jaxticket.methods.channels.precrop import precrop
      >>> params = {"a": {"kernel": jnp.ones((8, 64))}, "b": {"kernel": jnp.ones((64, 4))}}
      >>> apply = lambda p, x: x @ p["a"]["kernel"] @ p["b"]["kernel"]
      >>> groups = structure.trace(apply, params, jnp.ones((1, 8)))
      >>> precrop(params, groups, 0.25)
      {'a/kernel:1': 16}
    """
    program = make_program(params, groups, fraction, cost, where)
    return round_widths(groups, _solve(program, grow), program)


def _solve(program: Program, grow: bool) -> np.ndarray:
    """Return the widths, not rounded, that make the product of the sizes of layers largest."""
    _, total, full, budget = program
    lowest = -np.log(full)
    start = np.maximum(lowest, np.full(len(full), np.log(budget / total.of(full))))
    for _ in range(_STARTS):  # a line search may stop at the limits of precision
        result = _optimise(program, grow, start)
        if result.success:
            return full * np.exp(result.x)
        start = np.maximum(lowest, result.x - _INWARDS)
    raise RuntimeError(f"the widths were not found: {result.message}")


def _optimise(program: Program, grow: bool, start: np.ndarray) -> optimize.OptimizeResult:
    layers, total, full, budget = program
    return optimize.minimize(
        lambda x: -sum(np.log(sizes_of(layer, full * np.exp(x))).sum() for layer in layers),
        start,
        jac=lambda x: -sum(log_slope(layer, full * np.exp(x)) for layer in layers),
        bounds=[(low, None if grow else 0.0) for low in -np.log(full)],
        constraints={
            "type": "ineq",
            "fun": lambda x: np.log(budget) - np.log(total.of(full * np.exp(x))),
            "jac": lambda x: -total.slope(full * np.exp(x)) / total.of(full * np.exp(x)),
        },
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-9},
    )
