"""Derivatives of products whose own would scatter a number for each weight and row."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxticket.execution._packed import Packed


def dense_tangents(product: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Return a product (packed, x) -> y whose derivatives are dense products with `packed.dense()`.

    They need as much memory as a dense kernel, where those of gathered products need a number for each weight and row.
    """
    differentiable = jax.custom_jvp(product)

    @functools.partial(differentiable.defjvp, symbolic_zeros=True)
    def jvp(primals: tuple[Packed, jax.Array], tangents: tuple[Packed, jax.Array]) -> tuple[jax.Array, jax.Array]:
        (packed, x), (packed_dot, x_dot) = primals, tangents
        y = differentiable(packed, x)
        y_dot = jnp.zeros_like(y)
        multiply = functools.partial(jnp.matmul, preferred_element_type=y.dtype)
        if not isinstance(x_dot, SymbolicZero):
            y_dot += multiply(x_dot, packed.dense())
        if not isinstance(packed_dot.values, SymbolicZero):
            y_dot += multiply(x, dataclasses.replace(packed, values=packed_dot.values).dense())
        return y, y_dot

    return differentiable
