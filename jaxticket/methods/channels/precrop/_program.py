"""The layers and the cost of a network as functions of the widths of its groups, and widths as whole numbers."""

import math
from typing import Literal, NamedTuple, get_args

import numpy as np

from jaxticket import _tree, filters
from jaxticket._checks import check_fraction
from jaxticket.errors import InputError
from jaxticket.structure import Groups, Work
from jaxticket.typing import Filter, Params

Cost = Literal["params", "macs"]
_SLACK = 0.01  # by which rounded widths may exceed the budget


class Total(NamedTuple):
    """The sizes of layers, or what they cost, as functions of the widths of groups."""

    parts: list[Work]

    def of(self, widths: np.ndarray) -> float:
        return float(sum(sizes_of(part, widths).prod() * part.factor for part in self.parts))

    def slope(self, widths: np.ndarray) -> np.ndarray:
        """Return the derivative by the logarithms of the widths."""
        total = np.zeros(len(widths))
        for part in self.parts:
            total += part.factor * sizes_of(part, widths).prod() * log_slope(part, widths)
        return total


class Program(NamedTuple):
    """The layers and the cost as functions of widths, the whole widths, and the budget."""

    layers: list[Work]
    total: Total
    full: np.ndarray
    budget: float


def make_program(params: Params, groups: Groups, fraction: float, cost: Cost, where: Filter) -> Program:
    """Return what the widths decide, once the arguments are checked."""
    check_fraction("fraction", fraction)
    if fraction == 0:
        raise InputError("fraction is 0; at least one channel of every group stays")
    if cost not in get_args(Cost):
        raise InputError(f"cost is {cost!r}; choose one of {', '.join(get_args(Cost))}")
    layers = [_size_of(path, shape, groups) for path, shape in layers_of(params, groups, where).items()]
    layers = [layer for layer in layers if layer.axes]
    if not layers:
        raise InputError("params: no layer that `where` takes has channels of a group")
    parts = (
        groups.work if cost == "macs" else [_size_of(path, shape, groups) for path, shape in groups.shapes().items()]
    )
    total, full = Total(list(parts)), np.array(groups.widths(), float)
    if total.of(full) == 0:
        raise InputError(f"cost: the program has no {cost}; it holds no matrix product or convolution")
    budget, least = fraction * total.of(full), total.of(np.ones_like(full))
    if least > budget:
        raise InputError(
            f"fraction: {fraction} of the {cost} cannot be met; one channel a group leaves {least / total.of(full):.3g}"
        )
    return Program(layers, total, full, budget)


def layers_of(params: Params, groups: Groups, where: Filter) -> dict[str, tuple[int, ...]]:
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


def sizes_of(part: Work, widths: np.ndarray) -> np.ndarray:
    """Return the sizes of the axes with channels."""
    return np.array([fixed + sum(widths[g] * times for g, times in parts) for fixed, parts in part.axes])


def log_slope(part: Work, widths: np.ndarray) -> np.ndarray:
    """Return the derivative of the logarithm of a size by the logarithms of the widths."""
    slope = np.zeros(len(widths))
    for size, (_, parts) in zip(sizes_of(part, widths), part.axes, strict=True):
        for g, times in parts:
            slope[g] += widths[g] * times / size
    return slope


def round_widths(groups: Groups, exact: np.ndarray, program: Program) -> dict[str, int]:
    """Return whole widths: the nearest, less where they exceed the budget, those first that were rounded up most."""
    total, budget = program.total, program.budget
    widths = np.maximum(np.round(exact), 1)
    while total.of(widths) > (1 + _SLACK) * budget and (widths > 1).any():
        widths[np.argmax(np.where(widths > 1, widths / exact, 0))] -= 1
    for at in np.argsort(widths / exact):  # what one of them lost may fit in another
        while widths[at] < exact[at] and total.of(widths + np.eye(len(widths))[at]) <= budget:
            widths[at] += 1
    return {group.name: int(width) for group, width in zip(groups, widths, strict=True)}
