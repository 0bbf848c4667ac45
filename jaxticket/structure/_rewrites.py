"""Equations whose parameters state a shape, executed at the sizes that a mask of channels leaves."""

from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from jaxticket._jaxpr import evaluate
from jaxticket.structure._values import Node, Value


class Sizes(Protocol):
    """The sizes of a program without the entries that are dropped."""

    def stay(self, v: Value, axis: int) -> np.ndarray:
        """Return the entries of an axis that stay."""

    def shape(self, v: Value) -> tuple[int, ...]:
        """Return the new shape of a value."""

    def cut(self, v: Value, x: Any) -> Any:
        """Return an array of the old shape without the entries that are dropped."""


def _broadcast(sizes: Sizes, eqn: JaxprEqn, node: Node, operands: list[Any]) -> Any:
    return lax.broadcast_in_dim(operands[0], sizes.shape(node.outputs[0]), eqn.params["broadcast_dimensions"])


def _reshape(sizes: Sizes, eqn: JaxprEqn, node: Node, operands: list[Any]) -> Any:
    return lax.reshape(operands[0], sizes.shape(node.outputs[0]), eqn.params["dimensions"])


def _cut_whole(sizes: Sizes, eqn: JaxprEqn, node: Node, operands: list[Any]) -> list[Any]:
    """Make the whole array, so that counts and draws are the old ones, and cut it."""
    return [sizes.cut(v, x) for v, x in zip(node.outputs, evaluate(eqn, operands), strict=True)]


def _slice(sizes: Sizes, eqn: JaxprEqn, node: Node, operands: list[Any]) -> Any:
    (x,), params = operands, eqn.params
    strides = params["strides"] or (1,) * x.ndim
    for axis, bounds in enumerate(zip(params["start_indices"], params["limit_indices"], strides, strict=True)):
        x = _pick(sizes, node.inputs[0], x, axis, np.arange(*bounds))
    return x


def _pick(sizes: Sizes, v: Value, x: Any, axis: int, old: np.ndarray) -> Any:
    """Return the entries of an axis whose old positions are given, without those that are dropped."""
    stay = sizes.stay(v, axis)
    new = np.searchsorted(stay, old[np.isin(old, stay)])
    if len(new) == x.shape[axis] and (np.diff(new) == 1).all():
        return x
    if len(new) == 0:
        return lax.slice_in_dim(x, 0, 0, axis=axis)
    step = new[1] - new[0] if len(new) > 1 else 1
    if step > 0 and (np.diff(new) == step).all():
        return lax.slice_in_dim(x, int(new[0]), int(new[-1]) + 1, int(step), axis)
    return jnp.take(x, new, axis=axis)


def _split(sizes: Sizes, eqn: JaxprEqn, node: Node, operands: list[Any]) -> list[Any]:
    axis = eqn.params["axis"]
    return list(lax.split(operands[0], [sizes.shape(v)[axis] for v in node.outputs], axis))


def _tile(sizes: Sizes, eqn: JaxprEqn, node: Node, operands: list[Any]) -> Any:
    pairs = zip(operands[0].shape, sizes.shape(node.outputs[0]), strict=True)
    return eqn.primitive.bind(operands[0], **{**eqn.params, "reps": tuple(new // max(n, 1) for n, new in pairs)})


def _pad(sizes: Sizes, eqn: JaxprEqn, node: Node, operands: list[Any]) -> Any:
    v, out = node.inputs[0], node.outputs[0]
    config = []
    for axis, (low, high, interior) in enumerate(eqn.params["padding_config"]):
        if not interior and min(low, high) >= 0:
            stay = sizes.stay(out, axis)
            low, high = int(np.sum(stay < low)), int(np.sum(stay >= low + len(v.labels[axis])))
        config.append((low, high, interior))
    return lax.pad(operands[0], operands[1], config)


def _convolution(sizes: Sizes, eqn: JaxprEqn, node: Node, operands: list[Any]) -> Any:
    (x, kernel), params = operands, dict(eqn.params)
    numbers = params["dimension_numbers"]
    if params["feature_group_count"] > 1:
        params["feature_group_count"] = x.shape[numbers.lhs_spec[1]] // kernel.shape[numbers.rhs_spec[1]]
    return eqn.primitive.bind(x, kernel, **params)


def _gather(sizes: Sizes, eqn: JaxprEqn, node: Node, operands: list[Any]) -> Any:
    old, new = node.inputs[0].shape, sizes.shape(node.inputs[0])
    whole = [m if n == size and n > 1 else size for n, m, size in zip(old, new, eqn.params["slice_sizes"], strict=True)]
    return eqn.primitive.bind(*operands, **{**eqn.params, "slice_sizes": tuple(whole)})


def _dynamic_slice(sizes: Sizes, eqn: JaxprEqn, node: Node, operands: list[Any]) -> Any:
    x, *starts = operands
    old, wanted = node.inputs[0].shape, eqn.params["slice_sizes"]
    for axis, (n, size) in enumerate(zip(old, wanted, strict=True)):
        start = node.inputs[1 + axis].scalar
        if start is not None and n != size:
            first = int(np.clip(start, 0, n - size))
            x = _pick(sizes, node.inputs[0], x, axis, np.arange(first, first + size))
    cut = [axis for axis, n in enumerate(old) if n != wanted[axis] and node.inputs[1 + axis].scalar is None]
    starts = [start if axis in cut else jnp.zeros_like(start) for axis, start in enumerate(starts)]
    return lax.dynamic_slice(x, starts, [wanted[a] if a in cut else n for a, n in enumerate(x.shape)])


REWRITES = {
    "broadcast_in_dim": _broadcast,
    "conv_general_dilated": _convolution,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "iota": _cut_whole,
    "pad": _pad,
    "random_bits": _cut_whole,
    "random_gamma": _cut_whole,
    "reshape": _reshape,
    "rng_bit_generator": _cut_whole,
    "rng_uniform": _cut_whole,
    "slice": _slice,
    "split": _split,
    "tile": _tile,
}
