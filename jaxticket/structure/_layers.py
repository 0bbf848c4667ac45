"""The products of a program, each of which runs alone at other widths."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from jaxticket._jaxpr import shape_of
from jaxticket.structure._groups import Group, Work
from jaxticket.structure._trace import Coupling, collect, count_work, products
from jaxticket.structure._values import Node, Product


class Layer(NamedTuple):
    """A matrix product or convolution.

    Attributes:
      eqn: its equation.
      times: how often it runs.
      output: the entries of its output, by the channels that are kept.
      summed: the entries that it sums over.
      movable: for each operand, whether its axes hold channels.
      roots: how many axes with channels are summed over, and how many the output has.
    """

    eqn: JaxprEqn
    times: int
    output: Work
    summed: Work
    movable: tuple[tuple[bool, ...], ...]
    roots: tuple[int, int]

    @property
    def name(self) -> str:
        """The same for layers that take the same time."""
        params = ", ".join(f"{key}={x}" for key, x in sorted(self.eqn.params.items()))
        operands = ", ".join(
            f"{_dtype_of(var)}{[f'{n}*' if moves else f'{n}' for n, moves in zip(shape_of(var), axes, strict=True)]}"
            for var, axes in zip(self.eqn.invars, self.movable, strict=True)
        )
        return f"{self.eqn.primitive.name}({operands}; {params})"

    def operands(self, summed: float, output: float) -> list[jax.Array]:
        """Return operands with that fraction of the entries that are summed over, and of those of the output."""
        parts = (summed ** (1 / max(self.roots[0], 1)), output ** (1 / max(self.roots[1], 1)))
        rule = _shapes_of_convolution if self.eqn.primitive.name == "conv_general_dilated" else _shapes_of_product
        shapes = rule(self, *parts)
        arrays = [jnp.ones(shape, dtype) for shape, dtype in zip(shapes, map(_dtype_of, self.eqn.invars), strict=True)]
        if self.eqn.primitive.name == "ragged_dot_general":  # groups of equal size
            (rows,) = self.eqn.params["ragged_dot_dimension_numbers"].lhs_ragged_dimensions
            arrays[2] *= arrays[0].shape[rows] // arrays[2].shape[-1]
        return arrays

    def run(self, *operands: jax.Array) -> Any:
        """Return the product of operands of other widths."""
        params = dict(self.eqn.params)
        if params.get("feature_group_count", 1) > 1:
            numbers = params["dimension_numbers"]
            params["feature_group_count"] = (
                operands[0].shape[numbers.lhs_spec[1]] // operands[1].shape[numbers.rhs_spec[1]]
            )
        return self.eqn.primitive.bind(*operands, **params)


def layers(coupling: Coupling) -> list[Layer]:
    """Return the products of a program."""
    groups, group_of = collect(coupling)
    return [_layer(*product, groups, group_of) for product in products(coupling.tape)]


def _layer(
    eqn: JaxprEqn,
    node: Node,
    product: Product,
    times: int,
    groups: Sequence[Group],
    group_of: dict[int, tuple[int, int]],
) -> Layer:
    def moves(labels: np.ndarray) -> bool:
        return any(atom in group_of for atom in labels.tolist())

    output, summed = (count_work(axes, 1, groups, group_of) for axes in (product.output, product.summed))
    movable = tuple(tuple(map(moves, v.labels)) for v in node.inputs)
    roots = (sum(map(moves, product.summed)), sum(map(moves, product.output)))
    return Layer(eqn, times, output, summed, movable, roots)


def _shapes_of_product(layer: Layer, summed: float, output: float) -> list[tuple[int, ...]]:
    params = layer.eqn.params
    ragged = params.get("ragged_dot_dimension_numbers")
    over = (params["dimension_numbers"] if ragged is None else ragged.dot_dimension_numbers)[0]
    return [
        tuple(
            _part(n, summed if axis in sums else output) if moves else n
            for axis, (n, moves) in enumerate(zip(shape_of(var), axes, strict=True))
        )
        for var, axes, sums in zip(layer.eqn.invars, layer.movable, (*over, (), ()), strict=False)
    ]


def _shapes_of_convolution(layer: Layer, summed: float, output: float) -> list[tuple[int, ...]]:
    """Return the shapes of the maps and the kernel; in groups, each group has the same channels."""
    (x, kernel), numbers = (list(shape_of(var)) for var in layer.eqn.invars), layer.eqn.params["dimension_numbers"]
    groups = layer.eqn.params["feature_group_count"]
    batch, channels, (out, inner) = numbers.lhs_spec[0], numbers.lhs_spec[1], numbers.rhs_spec[:2]
    x_moves, kernel_moves = layer.movable
    if x_moves[batch]:
        x[batch] = _part(x[batch], output)
    if groups > 1 and kernel[inner] == 1:  # depthwise: an output has one input
        if x_moves[channels]:
            x[channels], multiplier = _part(groups, output), kernel[out] // groups
            kernel[out] = multiplier * x[channels]
        return [tuple(x), tuple(kernel)]
    if kernel_moves[inner]:
        kernel[inner] = _part(kernel[inner], summed)
        x[channels] = groups * kernel[inner]
    if kernel_moves[out]:
        kernel[out] = groups * _part(kernel[out] // groups, output)
    return [tuple(x), tuple(kernel)]


def _dtype_of(var: Any) -> Any:
    return var.aval.dtype


def _part(size: int, fraction: float) -> int:
    return max(1, round(fraction * size))
