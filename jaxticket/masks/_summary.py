"""A mask in numbers, leaf by leaf."""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _processes, _stacked, _tree
from jaxticket._check_trees import check_fits
from jaxticket.errors import InputError
from jaxticket.typing import Mask, Params, Stacked


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


def summary(params: Params, mask: Mask, *, stacked: Stacked | None = None) -> Summary:
    """Return the numbers of weights that the mask keeps, leaf by leaf and in total.

    The totals are those of the leaves that are sparsified, and those of all parameters. Counts are Python ints, of
    weights.

    Args:
      params: pytree that gives the shapes.
      mask: a mask with the structure of `params`, whose values are known.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer has a row,
        such as that of 'layers/kernel[2]'.

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

    stack = _stacked.read(stacked)
    columns = (_tree.leaves(t) for t in (_tree.names(params), params, mask))
    leaves = zip(*columns, stack.axes(params), strict=True)
    # A function of an equinox module has no shape.
    rows = tuple(itertools.chain.from_iterable(_rows(*leaf) for leaf in leaves if hasattr(leaf[1], "shape")))
    return Summary(rows, _total("maskable", [r for r in rows if r.density is not None]), _total("all", rows))


def _rows(path: str, p: jax.Array, m: jax.Array | None, axes: _stacked.Axes) -> list[Row]:
    """Return the row of a leaf, or those of its layers."""
    shape = _stacked.slice_shape(p.shape, axes)
    size, names = math.prod(shape), _stacked.labels(path, p.shape, axes)
    if m is None:
        return [Row(name, shape, size, size, None) for name in names]
    others = tuple(a for a in range(m.ndim) if a not in axes)
    # Two steps: the first cannot overflow int32.
    counts = _processes.on_host(jnp.sum(m, others[-1:], dtype=jnp.int32, keepdims=True))
    sums = np.sum(counts, others, dtype=np.int64, keepdims=True)
    layers = np.broadcast_to(sums, _stacked.stack_shape(p.shape, axes)).ravel()
    repeats = size // max(math.prod(m.shape[a] for a in others), 1)
    kept = [int(n) * repeats for n in layers]
    return [Row(name, shape, k, size, k / size if size else 1.0) for name, k in zip(names, kept, strict=True)]


def _total(name: str, rows: list[Row] | tuple[Row, ...]) -> Row:
    kept, size = sum(r.kept for r in rows), sum(r.size for r in rows)
    return Row(name, None, kept, size, kept / size if size else 1.0)


def _cells(row: Row) -> tuple[str, ...]:
    shape = "" if row.shape is None else str(row.shape)
    fraction = "dense" if row.density is None else f"{row.density:.4f}"
    return row.path, shape, f"{row.kept:,}", f"{row.size:,}", fraction
