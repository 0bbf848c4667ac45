"""PreCrop: how many channels each group of an untrained network keeps, from the sizes of its layers alone.

What counts at initialisation is how dense each layer is, not which of its weights stay. With a random mask of density
p_l in each layer the objective of SynFlow is expected to shrink by the product of the p_l. PreCrop keeps the channels
that make this product largest within a budget of parameters or multiply-adds: an optimisation over one ratio a group,
without data or weights. The smaller network is dense from the first step.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy import optimize

from jaxticket import _tree, filters
from jaxticket._checks import check_fraction
from jaxticket.errors import InputError
from jaxticket.structure import Groups, Work
from jaxticket.typing import Filter, Params

__all__ = ["Cost", "precrop"]

Cost = Literal["params", "macs"]
_SLACK = 0.01  # by which rounded widths may exceed the budget
_STARTS, _INWARDS = 6, 0.1  # of the optimisation; logarithm of widths by which the next one starts within the budget


class _Total(NamedTuple):
    """The sizes of layers, or what they cost, as functions of the widths of groups."""

    parts: list[Work]

    def of(self, widths: np.ndarray) -> float:
        return float(sum(_sizes(part, widths).prod() * part.factor for part in self.parts))

    def slope(self, widths: np.ndarray) -> np.ndarray:
        """Return the derivative by the logarithms of the widths."""
        total = np.zeros(len(widths))
        for part in self.parts:
            total += part.factor * _sizes(part, widths).prod() * _log_slope(part, widths)
        return total


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
    check_fraction("fraction", fraction)
    if fraction == 0:
        raise InputError("fraction is 0; at least one channel of every group stays")
    if cost not in get_args(Cost):
        raise InputError(f"cost is {cost!r}; choose one of {', '.join(get_args(Cost))}")
    layers = [_size_of(path, shape, groups) for path, shape in _layers(params, groups, where).items()]
    layers = [layer for layer in layers if layer.axes]
    if not layers:
        raise InputError("params: no layer that `where` takes has channels of a group")
    parts = (
        groups.work if cost == "macs" else [_size_of(path, shape, groups) for path, shape in groups.shapes().items()]
    )
    total, full = _Total(list(parts)), np.array(groups.widths(), float)
    if total.of(full) == 0:
        raise InputError(f"cost: the program has no {cost}; it holds no matrix product or convolution")
    budget, least = fraction * total.of(full), total.of(np.ones_like(full))
    if least > budget:
        raise InputError(
            f"fraction: {fraction} of the {cost} cannot be met; one channel a group leaves {least / total.of(full):.3g}"
        )
    return dict(zip((g.name for g in groups), _round(_solve(layers, total, full, budget, grow), total, budget)))


def _layers(params: Params, groups: Groups, where: Filter) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the layers whose densities count."""
    shapes, chosen = groups.shapes(), filters.only(params, where)
    names = _tree.present_names(chosen)
    for name in names:
        if name not in shapes:
            raise InputError(f"params: {name} is not a leaf of the traced variables; pass those that were traced")
    return {name: shapes[name] for name in names}


def _size_of(path: str, shape: tuple[int, ...], groups: Groups) -> Work:
    """Return the entries of a leaf: as `Work`, whose axes are those with channels."""
    axes: dict[int, list[tuple[int, int]]] = {}
    for index, group in enumerate(groups):
        for member in group.members:
            if member.path == path:
                axes.setdefault(member.axis, []).append((index, len(member.positions[0])))
    fixed = {a: shape[a] - sum(groups[i].width * times for i, times in parts) for a, parts in axes.items()}
    factor = math.prod(n for a, n in enumerate(shape) if a not in axes)
    return Work(factor, tuple((fixed[a], tuple(parts)) for a, parts in axes.items()))


def _sizes(part: Work, widths: np.ndarray) -> np.ndarray:
    """Return the sizes of the axes with channels."""
    return np.array([fixed + sum(widths[g] * times for g, times in parts) for fixed, parts in part.axes])


def _log_slope(part: Work, widths: np.ndarray) -> np.ndarray:
    """Return the derivative of the logarithm of a size by the logarithms of the widths."""
    slope = np.zeros(len(widths))
    for size, (_, parts) in zip(_sizes(part, widths), part.axes, strict=True):
        for g, times in parts:
            slope[g] += widths[g] * times / size
    return slope


def _solve(layers: Sequence[Work], total: _Total, full: np.ndarray, budget: float, grow: bool) -> np.ndarray:
    """Return the widths, not rounded, that make the product of the sizes of layers largest."""
    lowest = -np.log(full)
    start = np.maximum(lowest, np.full(len(full), np.log(budget / total.of(full))))
    for _ in range(_STARTS):  # a line search may stop at the limits of precision
        result = _optimise(layers, total, full, budget, grow, start)
        if result.success:
            return full * np.exp(result.x)
        start = np.maximum(lowest, result.x - _INWARDS)
    raise RuntimeError(f"the widths were not found: {result.message}")


def _optimise(
    layers: Sequence[Work], total: _Total, full: np.ndarray, budget: float, grow: bool, start: np.ndarray
) -> optimize.OptimizeResult:
    return optimize.minimize(
        lambda x: -sum(np.log(_sizes(layer, full * np.exp(x))).sum() for layer in layers),
        start,
        jac=lambda x: -sum(_log_slope(layer, full * np.exp(x)) for layer in layers),
        bounds=[(low, None if grow else 0.0) for low in -np.log(full)],
        constraints={
            "type": "ineq",
            "fun": lambda x: np.log(budget) - np.log(total.of(full * np.exp(x))),
            "jac": lambda x: -total.slope(full * np.exp(x)) / total.of(full * np.exp(x)),
        },
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-9},
    )


def _round(exact: np.ndarray, total: _Total, budget: float) -> list[int]:
    """Return whole widths: the nearest, less where they exceed the budget, those first that were rounded up most."""
    widths = np.maximum(np.round(exact), 1)
    while total.of(widths) > (1 + _SLACK) * budget and (widths > 1).any():
        widths[np.argmax(np.where(widths > 1, widths / exact, 0))] -= 1
    for group in np.argsort(widths / exact):  # what one of them lost may fit in another
        while widths[group] < exact[group] and total.of(widths + np.eye(len(widths))[group]) <= budget:
            widths[group] += 1
    return [int(n) for n in widths]
