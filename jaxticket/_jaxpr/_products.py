"""Products of a weight with data: the inputs and outputs of a dot_general or a convolution, on the weight's axes."""

import math
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from jaxticket._dtypes import wide
from jaxticket._jaxpr._layout import Axis, Layout, Part, arrange
from jaxticket._jaxpr._walk import shape_of
from jaxticket.errors import InputError

_EXACT = lax.Precision.HIGHEST


class Weight(NamedTuple):
    """An array that is a leaf of the parameters, its axes moved perhaps.

    Attributes:
      leaf: the index among the leaves of the parameters.
      ndim: the number of the leaf's axes there.
      layout: where the array's axes come from.
      key: the name of its totals: the leaf, or within a loop the position among the loop's arguments.
      slot: the array that a tap gets beside a product of this leaf, or None.
    """

    leaf: int
    ndim: int
    layout: Layout
    key: Hashable
    slot: jax.Array | None


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
      positions: the axes of the output that are not the weight's: ("free", i), of which the first are the examples, and
        for a convolution's feature maps ("spatial", i).
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


def product_of(eqn: JaxprEqn, at: int, weight: Weight, inputs: jax.Array, output: jax.Array) -> Product | None:
    """Return the product that an equation is, whose operand `at` is the weight; None for other operations."""
    if eqn.primitive.name == "dot_general":
        return _dot(eqn, at, weight, inputs, output)
    if eqn.primitive.name == "conv_general_dilated" and at == 1 and eqn.params["batch_group_count"] == 1:
        return _convolution(eqn, weight, inputs, output)
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
    return arrange(total, product.weight.layout, range(product.weight.ndim))


def gram(product: Product) -> jax.Array:
    """Return XᵀX of the inputs of a weight over all positions: the leaf's axes twice, 1 where inputs do not differ."""
    x = product.unfold(wide(product.inputs))
    shape = [n if axis in product.contracted else 1 for axis, n in enumerate(product.shape)]
    both = jnp.einsum("...i,...j->ij", x, x, precision=_EXACT).reshape(*shape, -1)
    layout, axes = product.weight.layout, range(product.weight.ndim)
    once = jnp.moveaxis(arrange(both, layout, axes), -1, 0)
    return arrange(once.reshape(*shape, *once.shape[1:]), layout, axes)


def outputs(product: Product) -> jax.Array:
    """Return the output as (*positions, *the leaf's axes), with size 1 along the contracted ones."""
    axes = (*product.positions, *range(product.weight.ndim))
    return arrange(product.output, product.output_layout, axes)


def _dot(eqn: JaxprEqn, at: int, weight: Weight, inputs: jax.Array, output: jax.Array) -> Product:
    numbers = eqn.params["dimension_numbers"]
    contracted, along = numbers[0][at], numbers[0][1 - at]
    batch, batch_of_inputs = numbers[1][at], numbers[1][1 - at]
    shape = shape_of(eqn.invars[at])
    free = tuple(a for a in range(len(shape)) if a not in (*contracted, *batch))
    positions = [a for a in range(inputs.ndim) if a not in (*along, *batch_of_inputs)]

    def multiply(x: jax.Array, w: jax.Array) -> jax.Array:
        return lax.dot_general(*((w, x) if at == 0 else (x, w)), numbers, precision=_EXACT)

    def unfold(x: jax.Array) -> jax.Array:
        if batch:
            raise InputError(
                f"a weight of shape {shape} is a batch of matrices (axes {batch}), each with inputs of its own; keep "
                "one leaf for each of them, or leave it out with where=."
            )
        x = jnp.transpose(x, (*positions, *(along[contracted.index(a)] for a in sorted(contracted))))
        return x.reshape(*x.shape[: len(positions)], -1)

    of_weight = [weight.layout[a] for a in free]
    names = [("free", i) for i in range(len(positions))]
    of_inputs = [_name_axis(name, inputs.shape[a]) for name, a in zip(names, positions, strict=True)]
    layout = [weight.layout[a] for a in batch] + (of_weight + of_inputs if at == 0 else of_inputs + of_weight)
    names = names or [("free", 0)]  # a single example, without an axis
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
        patches = lax.conv_general_dilated_patches(x, window, precision=_EXACT, **options)
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
