"""Products of a weight with data: the inputs and outputs of a dot_general or a convolution, on the weight's axes."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from jaxticket._dtypes import wide
from jaxticket._jaxpr._layout import Axis, Layout, Part, arrange
from jaxticket._jaxpr._walk import shape_of
from jaxticket.errors import InputError

_EXACT = lax.Precision.HIGHEST


class Pick(NamedTuple):
    """A choice of layers or experts along an axis of a leaf: w[index].

    Attributes:
      axis: the leaf's axis.
      size: its length there.
      names: the names of the axes that took its place, those of size 1 left out.
      chosen: the chosen indices, of the shape that the names have; others than 0 … size − 1 stand for none.
    """

    axis: int
    size: int
    names: tuple[Axis, ...]
    chosen: jax.Array


class Weight(NamedTuple):
    """An array that is a leaf of the parameters, or chosen layers of one, its axes moved perhaps.

    Attributes:
      leaf: the index among the leaves of the parameters.
      ndim: the number of the leaf's axes there.
      layout: where the array's axes come from.
      key: the name of its totals: the leaf, or within a loop the position among the loop's arguments.
      slot: the array that a tap gets beside a product of this leaf, or None.
      picks: the choices along the leaf's axes.
    """

    leaf: int
    ndim: int
    layout: Layout
    key: Hashable
    slot: jax.Array | None
    picks: tuple[Pick, ...] = ()


class Product(NamedTuple):
    """A weight times data.

    Attributes:
      weight: the weight as it enters.
      shape: the shape of the weight as it enters.
      contracted: the axes of the weight that are summed over.
      features: those of them that are not the taps of a convolution: its inputs.
      free: the axes of the weight that only the output has.
      multiply: (inputs, weight) -> output, in full precision; the weight may have size `groups` on its free axes.
      groups: 1, or the number of feature groups of a convolution.
      unfold: inputs -> (positions…, their values at each entry of the contracted axes).
      inputs: the array that the weight is multiplied with.
      output: the product, with its biases and norms of fixed statistics where these follow.
      output_layout: the layout of the output.
      positions: the axes of the output that are not the weight's: those of picks, then ("free", i), of which the first
        are the examples, and for a convolution's feature maps ("spatial", i).
    """

    weight: Weight
    shape: tuple[int, ...]
    contracted: tuple[int, ...]
    features: tuple[int, ...]
    free: tuple[int, ...]
    multiply: Callable[[jax.Array, jax.Array], jax.Array]
    groups: int
    unfold: Callable[[jax.Array], jax.Array]
    inputs: jax.Array
    output: jax.Array
    output_layout: Layout
    positions: tuple[Axis, ...]

    @property
    def choices(self) -> int:
        """The number of positions, the first ones, that chose a layer or expert."""
        return sum(len(pick.names) for pick in self.weight.picks)


def product_of(
    eqn: JaxprEqn, at: int, weight: Weight, others: Sequence[jax.Array], output: jax.Array
) -> Product | None:
    """Return the product that an equation is, whose operand `at` is the weight; None for other operations."""
    name = eqn.primitive.name
    if name == "dot_general":
        shape = shape_of(eqn.invars[at])
        return _contract(eqn.params["dimension_numbers"], at, weight, shape, others[0], output)
    if name == "ragged_dot_general" and at == 1:
        return _ragged(eqn, weight, others[0], others[1], output)
    picked = any(pick.names for pick in weight.picks)
    if name == "conv_general_dilated" and at == 1 and eqn.params["batch_group_count"] == 1 and not picked:
        return _convolution(eqn, weight, others[0], output)
    return None


def input_squares(product: Product) -> jax.Array:
    """Sum the squared inputs of each weight over all positions: the leaf's axes, 1 where inputs do not differ."""
    shape = [product.groups if axis in product.free else n for axis, n in enumerate(product.shape)]
    x = wide(product.inputs)
    # The product is linear in the weight, and the factors in its derivative are the inputs.
    total = jax.grad(lambda w: jnp.sum(product.multiply(jnp.square(x), w)))(jnp.zeros(shape, x.dtype))
    if product.groups > 1:
        (axis,) = product.free
        total = jnp.repeat(total, product.shape[axis] // product.groups, axis)
    names = [name for pick in product.weight.picks for name in pick.names]
    return onto_leaf(arrange(total, product.weight.layout, [*names, *range(product.weight.ndim)]), product.weight)


def inner_axes(product: Product) -> tuple[int, ...]:
    """Return the leaf's axes of inputs and outputs; the others count its matrices: layers, experts."""
    return _axes_of_leaf(product, (*product.contracted, *product.free))


def input_axes(product: Product) -> tuple[int, ...]:
    """Return the leaf's axes of inputs, those of size 1 left out."""
    return _axes_of_leaf(product, product.contracted)


def _axes_of_leaf(product: Product, axes: Sequence[int]) -> tuple[int, ...]:
    parts = [part.axis for a in axes for part in product.weight.layout[a]]
    return tuple(sorted({axis for axis in parts if isinstance(axis, int)}))


def gram(product: Product) -> jax.Array:
    """Return XᵀX of the inputs of a weight over all positions: the leaf's axes twice, 1 where inputs do not differ."""
    x = product.unfold(wide(product.inputs))
    shape = [n if axis in product.contracted else 1 for axis, n in enumerate(product.shape)]
    both = jnp.einsum("...i,...j->ij", x, x, precision=_EXACT).reshape(*shape, -1)
    layout, axes = product.weight.layout, range(product.weight.ndim)
    once = jnp.moveaxis(arrange(both, layout, axes), -1, 0)
    return onto_leaf(arrange(once.reshape(*shape, *once.shape[1:]), layout, axes), product.weight)


def outputs(product: Product) -> jax.Array:
    """Return the output as (*positions, *the leaf's axes), with size 1 along the contracted ones."""
    axes = (*product.positions, *range(product.weight.ndim))
    return arrange(product.output, product.output_layout, axes)


def sum_positions(product: Product, x: jax.Array) -> jax.Array:
    """Sum an array (*positions, *the leaf's axes) over all positions, each on the layer or expert that it chose."""
    return onto_leaf(jnp.sum(x, range(product.choices, len(product.positions))), product.weight)


def onto_leaf(x: jax.Array, weight: Weight) -> jax.Array:
    """Sum an array (*names of picks, *the leaf's axes, …) over the names, each entry on the index that it chose."""
    waiting = sum(len(pick.names) for pick in weight.picks)
    for pick in weight.picks:
        waiting -= len(pick.names)
        rows = jnp.broadcast_to(x, (*pick.chosen.shape, *x.shape[len(pick.names) :]))
        rows = rows.reshape(pick.chosen.size, *x.shape[len(pick.names) :])
        at = waiting + pick.axis
        x = jax.ops.segment_sum(jnp.squeeze(rows, 1 + at), pick.chosen.ravel(), pick.size)
        x = jnp.moveaxis(x, 0, at)
    return x


def pick_from(weight: Weight, at: int, index: jax.Array) -> Weight | None:
    """Return the weight in which the axes of `index` take the place of axis `at`; None unless that is a whole axis."""
    parts = weight.layout[at]
    others = [part.axis for a, axis in enumerate(weight.layout) if a != at for part in axis]
    axis = parts[0].axis if len(parts) == 1 and parts[0].stride == 1 else None
    if not isinstance(axis, int) or axis in others:
        return None
    names: list[Axis] = [(f"picked from {axis}", i) for i in range(index.ndim)]
    new = [_name_axis(name, n) for name, n in zip(names, index.shape, strict=True)]
    kept = [(name, n) for name, n in zip(names, index.shape, strict=True) if n != 1]
    pick = Pick(axis, parts[0].size, tuple(name for name, _ in kept), index.reshape([n for _, n in kept]))
    layout = (*weight.layout[:at], *new, *weight.layout[at + 1 :])
    return weight._replace(layout=layout, picks=(*weight.picks, pick))


def _ragged(eqn: JaxprEqn, weight: Weight, inputs: jax.Array, sizes: jax.Array, output: jax.Array) -> Product | None:
    """Return the product of rows with matrices, of which each takes the next group of rows: one matrix a row."""
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (along, contracted), (batch_of_inputs, batch) = numbers.dot_dimension_numbers
    (row,), groups = numbers.lhs_ragged_dimensions, numbers.rhs_group_dimensions
    if len(groups) != 1 or row in (*along, *batch_of_inputs) or sizes.ndim != 1:
        return None
    rows = inputs.shape[row]
    picked = pick_from(weight, groups[0], jnp.searchsorted(jnp.cumsum(sizes), jnp.arange(rows), side="right"))
    if picked is None:
        return None
    shape = tuple(rows if a == groups[0] else n for a, n in enumerate(shape_of(eqn.invars[1])))
    as_batch = ((along, contracted), ((*batch_of_inputs, row), (*batch, *groups)))
    product = _contract(as_batch, 1, picked, shape, inputs, output)
    # Rows lie among the other axes of the inputs, where dot_general has them after the batch.
    layout, at = list(product.output_layout), len(batch)
    layout.insert(at + sum(a not in (*along, *batch_of_inputs) for a in range(row)), layout.pop(at))
    return product._replace(output_layout=tuple(layout))


def _contract(
    numbers: Any, at: int, weight: Weight, shape: tuple[int, ...], inputs: jax.Array, output: jax.Array
) -> Product:
    contracted, along = numbers[0][at], numbers[0][1 - at]
    batch, batch_of_inputs = numbers[1][at], numbers[1][1 - at]
    free = tuple(a for a in range(len(shape)) if a not in (*contracted, *batch))
    positions = [a for a in range(inputs.ndim) if a not in (*along, *batch_of_inputs)]

    def multiply(x: jax.Array, w: jax.Array) -> jax.Array:
        return lax.dot_general(*((w, x) if at == 0 else (x, w)), numbers, precision=_EXACT)

    def unfold(x: jax.Array) -> jax.Array:
        if any(pick.names for pick in weight.picks):
            raise InputError(
                f"a weight of shape {shape} is a part of a leaf that is chosen entry by entry; keep one leaf for each "
                "matrix, or leave it out with where=."
            )
        if batch:
            raise InputError(
                f"a weight of shape {shape} is a batch of matrices (axes {batch}), each with inputs of its own; keep "
                "one leaf for each of them, or leave it out with where=."
            )
        x = jnp.transpose(x, (*positions, *(along[contracted.index(a)] for a in sorted(contracted))))
        return x.reshape(*x.shape[: len(positions)], -1)

    of_weight = [weight.layout[a] for a in free]
    names: list[Axis] = [("free", i) for i in range(len(positions))]
    of_inputs = [_name_axis(name, inputs.shape[a]) for name, a in zip(names, positions, strict=True)]
    layout = [weight.layout[a] for a in batch] + (of_weight + of_inputs if at == 0 else of_inputs + of_weight)
    names = names or [("free", 0)]  # a single example, without an axis
    names = [*(name for pick in weight.picks for name in pick.names), *names]
    return Product(
        weight, shape, contracted, contracted, free, multiply, 1, unfold, inputs, output, tuple(layout), tuple(names)
    )


def _convolution(eqn: JaxprEqn, weight: Weight, inputs: jax.Array, output: jax.Array) -> Product:
    params, shape = eqn.params, shape_of(eqn.invars[1])
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    options = {
        name: params[name]
        for name in ("window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers")
    }
    out, *others = numbers.rhs_spec  # (output features, input features, spatial…)

    def multiply(x: jax.Array, w: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(x, w, **options, feature_group_count=groups, precision=_EXACT)

    def unfold(x: jax.Array) -> jax.Array:
        if groups > 1:
            raise InputError(
                f"a convolution kernel of shape {shape} has {groups} feature groups, each with inputs of its own; "
                "leave it out with where=."
            )
        window = [shape[a] for a in others[1:]]
        # A patch of a 1 × 1 layer is a pixel, which needs no convolution (nor padding, of which it would see zeros).
        same = numbers.lhs_spec == numbers.out_spec and not any(map(any, options["padding"]))
        steps = {*window, *options["window_strides"], *options["lhs_dilation"]}
        pointwise = same and steps == {1}
        patches = x if pointwise else lax.conv_general_dilated_patches(x, window, precision=_EXACT, **options)
        features = jnp.moveaxis(patches, numbers.out_spec[1], -1)
        split = features.reshape(*features.shape[:-1], *(shape[a] for a in others))
        start = features.ndim - 1
        order = sorted(range(len(others)), key=lambda i: others[i])
        split = jnp.transpose(split, (*range(start), *(start + i for i in order)))
        return split.reshape(*features.shape[:-1], math.prod(shape[a] for a in others))

    layout: list[tuple[Part, ...]] = [()] * output.ndim
    batch, features, *spatial = numbers.out_spec
    positions: list[Axis] = [("free", 0), *(("spatial", i) for i in range(len(spatial)))]
    layout[features] = weight.layout[out]
    for name, axis in zip(positions, (batch, *spatial), strict=True):
        layout[axis] = _name_axis(name, output.shape[axis])
    contracted, placed = tuple(sorted(others)), (tuple(layout), tuple(positions))
    return Product(weight, shape, contracted, (others[0],), (out,), multiply, groups, unfold, inputs, output, *placed)


def _name_axis(name: Axis, size: int) -> tuple[Part, ...]:
    return (Part(name, size),) if size != 1 else ()
