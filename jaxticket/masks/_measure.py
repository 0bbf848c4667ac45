"""Measures of masks. Entries of broadcast masks count as often as they stand for a weight; None leaves do not count."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _processes, _tree
from jaxticket._check_trees import check_fits
from jaxticket.errors import InputError
from jaxticket.masks import _algebra
from jaxticket.typing import Mask, Params

_MOST = 2**31 - 1  # the largest int32


def density(params: Params, mask: Mask) -> jax.Array:
    """Return the fraction of weights kept, over the leaves that are sparsified.

    Args:
      params: pytree that gives the shapes: a channel mask counts as its weights do. Any number of weights.
      mask: a mask with the structure of `params`.

    Returns:
      A float32 scalar; 1 if no leaf is sparsified.

    Raises:
      StructureError: a mask that does not fit the parameters.

    Examples:
      >>> import jax.numpy as jnp
      >>> density({"w": jnp.ones((2, 4)), "b": jnp.ones(4)}, {"w": jnp.array([[True], [False]]), "b": None})
      Array(0.5, dtype=float32)
    """
    mask = check_fits(params, mask)
    return _fraction(_kept(params, mask), jnp.float32(_size(params, mask)), empty=1)


def nnz(params: Params, mask: Mask) -> jax.Array:
    """Return the number of weights kept, over the leaves that are sparsified.

    Args:
      params: pytree that gives the shapes.
      mask: a mask with the structure of `params`.

    Returns:
      An int32 scalar.

    Raises:
      InputError: more than 2^31 − 1 weights (`density` does not have this limit).
      StructureError: a mask that does not fit the parameters.

    Examples:
      >>> import jax.numpy as jnp
      >>> nnz({"w": jnp.ones((2, 4))}, {"w": jnp.array([[True], [False]])})
      Array(4, dtype=int32)
    """
    mask = check_fits(params, mask)
    if _size(params, mask) > _MOST:
        raise InputError(f"nnz cannot count {_size(params, mask)} weights in int32; use density(params, mask).")
    return _kept(params, mask)


def outside(params: Params, mask: Mask) -> jax.Array:
    """Count the weights outside the mask that are not exact zeros: 0 wherever a mask is kept.

    Use it to find a transform that leaks: one that stands after `sparsify` in a chain, or an average of parameters.

    Args:
      params: pytree of arrays.
      mask: its mask; leaves that are None are not sparsified and do not count.

    Returns:
      The count as int32 scalar, float32 beyond 2^31 - 1 weights. NaN counts.

    Raises:
      StructureError: a mask that does not fit the parameters.

    Examples:
      >>> int(outside({"w": jnp.array([1.0, 2.0, 0.0])}, {"w": jnp.array([True, False, False])}))
      1
    """
    mask = check_fits(params, mask)
    dtype = jnp.int32 if _size(params, mask) <= _MOST else jnp.float32

    def count(p: jax.Array, m: jax.Array) -> jax.Array:
        return jnp.sum(_along_last(~m & (p != 0)), dtype=dtype)

    return sum(jax.tree.leaves(_tree.map_present(count, params, mask)), start=jnp.zeros((), dtype))


def iou(params: Params, a: Mask, b: Mask) -> jax.Array:
    """Return the intersection over union of the weights that two masks keep.

    Args:
      params: pytree that gives the shapes.
      a: a mask with the structure of `params`.
      b: another mask, which sparsifies the same leaves.

    Returns:
      A float32 scalar; 1 if both keep nothing.

    Raises:
      StructureError: a mask that does not fit the parameters, or masks that sparsify different leaves.

    Examples:
      >>> import jax.numpy as jnp
      >>> iou(jnp.ones(4), jnp.array([True, True, False, False]), jnp.array([False, True, False, False]))
      Array(0.5, dtype=float32)
    """
    a, b = check_fits(params, a, name="a"), check_fits(params, b, name="b")
    either = _kept(params, _algebra.union(a, b))
    return _fraction(_kept(params, _algebra.intersection(a, b)), either, empty=1)


def hamming(params: Params, a: Mask, b: Mask) -> jax.Array:
    """Return the fraction of weights on which two masks differ.

    Args:
      params: pytree that gives the shapes.
      a: a mask with the structure of `params`.
      b: another mask, which sparsifies the same leaves.

    Returns:
      A float32 scalar.

    Raises:
      StructureError: a mask that does not fit the parameters, or masks that sparsify different leaves.

    Examples:
      >>> import jax.numpy as jnp
      >>> hamming(jnp.ones(4), jnp.array([True, True, False, False]), jnp.array([False, True, False, False]))
      Array(0.25, dtype=float32)
    """
    a, b = check_fits(params, a, name="a"), check_fits(params, b, name="b")
    differ = _algebra.union(_algebra.difference(a, b), _algebra.difference(b, a))
    return _fraction(_kept(params, differ), jnp.float32(_size(params, a)), empty=0)


def churn(params: Params, old: Mask, new: Mask) -> jax.Array:
    """Return the fraction of the weights kept by `new` that `old` did not keep.

    Args:
      params: pytree that gives the shapes.
      old: a mask with the structure of `params`.
      new: a later mask, which sparsifies the same leaves.

    Returns:
      A float32 scalar; 0 if `new` keeps nothing.

    Raises:
      StructureError: a mask that does not fit the parameters, or masks that sparsify different leaves.

    Examples:
      >>> import jax.numpy as jnp
      >>> churn(jnp.ones(4), jnp.array([True, True, False, False]), jnp.array([False, True, True, False]))
      Array(0.5, dtype=float32)
    """
    old, new = check_fits(params, old, name="old"), check_fits(params, new, name="new")
    return _fraction(_kept(params, _algebra.difference(new, old)), _kept(params, new), empty=0)


class Row(NamedTuple):
    """One leaf of a Summary.

    Attributes:
      path: the leaf's path name.
      shape: the leaf's shape; None in totals.
      kept: the number of weights kept; the leaf's size if it is not sparsified.
      size: the number of weights.
      density: kept / size; None if the leaf is not sparsified.
    """

    path: str
    shape: tuple[int, ...] | None
    kept: int
    size: int
    density: float | None


class Summary(NamedTuple):
    """A mask in numbers, leaf by leaf; str() makes a table of it.

    Attributes:
      rows: one for each parameter, in tree order.
      maskable: totals over the leaves that are sparsified.
      all: totals over all parameters.
    """

    rows: tuple[Row, ...]
    maskable: Row
    all: Row

    def __str__(self) -> str:
        header = ("path", "shape", "kept", "size", "density")
        lines = [header, *map(_cells, self.rows), _cells(self.maskable), _cells(self.all)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        table = [
            "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
            for line in lines
        ]
        rule = "-" * len(table[0])
        return "\n".join([table[0], rule, *table[1:-2], rule, *table[-2:]])


def summary(params: Params, mask: Mask) -> Summary:
    """Return the numbers of weights that the mask keeps, leaf by leaf and in total.

    The totals are those of the leaves that are sparsified, and those of all parameters. Counts are Python ints, of
    weights.

    Args:
      params: pytree that gives the shapes.
      mask: a mask with the structure of `params`, whose values are known.

    Returns:
      A Summary, which prints as a table.

    Raises:
      InputError: a call under jit, where the counts are not known.
      StructureError: a mask that does not fit the parameters.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"kernel": jnp.ones((2, 4)), "bias": jnp.ones(4)}
      >>> print(summary(params, {"kernel": jnp.array([[True], [False]]), "bias": None}))
      path      shape   kept  size  density
      -------------------------------------
      bias      (4,)       4     4    dense
      kernel    (2, 4)     4     8   0.5000
      -------------------------------------
      maskable             4     8   0.5000
      all                  8    12   0.6667
    """
    mask = check_fits(params, mask)
    if any(isinstance(m, jax.core.Tracer) for m in jax.tree.leaves(mask)):
        raise InputError("summary needs a mask whose values are known; call it outside jit, vmap and grad.")

    def row(path: str, p: jax.Array | None, m: jax.Array | None) -> Row | None:
        if p is None or not hasattr(p, "shape"):  # a function of an equinox module has none
            return None
        size = math.prod(p.shape)
        if m is None:
            return Row(path, p.shape, size, size, None)
        kept = int(np.sum(_processes.on_host(_along_last(m)), dtype=np.int64)) * _repeats(p, m)
        return Row(path, p.shape, kept, size, kept / size if size else 1.0)

    tree = _tree.tree_map(row, _tree.names(params), params, mask)
    rows = tuple(jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Row)))
    return Summary(rows, _total("maskable", [r for r in rows if r.density is not None]), _total("all", rows))


def _total(name: str, rows: list[Row] | tuple[Row, ...]) -> Row:
    kept, size = sum(r.kept for r in rows), sum(r.size for r in rows)
    return Row(name, None, kept, size, kept / size if size else 1.0)


def _cells(row: Row) -> tuple[str, ...]:
    shape = "" if row.shape is None else str(row.shape)
    fraction = "dense" if row.density is None else f"{row.density:.4f}"
    return row.path, shape, f"{row.kept:,}", f"{row.size:,}", fraction


def _size(params: Params, mask: Mask) -> int:
    """Return the number of weights of the leaves that are sparsified."""
    return sum(jax.tree.leaves(_tree.map_present(lambda p, m: math.prod(p.shape), params, mask)))


def _kept(params: Params, mask: Mask) -> jax.Array:
    """Return the number of weights kept: int32 and exact where that can hold it, else float32."""
    dtype = jnp.int32 if _size(params, mask) <= _MOST else jnp.float32

    def count(p: jax.Array, m: jax.Array) -> jax.Array:
        # Two steps: the first cannot overflow int32, and float32 would lose count in it.
        return jnp.sum(_along_last(m), dtype=dtype) * jnp.asarray(_repeats(p, m), dtype)

    return sum(jax.tree.leaves(_tree.map_present(count, params, mask)), start=jnp.zeros((), dtype))


def _along_last(m: jax.Array) -> jax.Array:
    return jnp.sum(m, axis=-1 if m.ndim else None, dtype=jnp.int32)


def _repeats(p: jax.Array, m: jax.Array) -> int:
    """Return the number of weights that each entry of a broadcast mask stands for."""
    return math.prod(p.shape) // max(math.prod(m.shape), 1)


def _fraction(part: jax.Array, whole: jax.Array, *, empty: float) -> jax.Array:
    part, whole = part.astype(jnp.float32), whole.astype(jnp.float32)
    return jnp.where(whole > 0, part / jnp.maximum(whole, 1), jnp.float32(empty))
