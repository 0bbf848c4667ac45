"""How a density is shared among leaves: one Python float a leaf, from shapes alone, None where not sparsified.

Everything here runs on the host, so `params` may hold arrays, tracers or `jax.ShapeDtypeStruct`s.
"""

import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxticket import _tree, filters
from jaxticket.errors import InputError, NoMatchError
from jaxticket.masks.apply import check_fits
from jaxticket.typing import Filter, Mask, Params, PyTree


def uniform(
    params: Params, density: float, *, where: Filter | PyTree = filters.weights(), dense: Sequence[str] = ()
) -> PyTree:
    """The same density for each leaf, up to rounding.

    Args:
      params: pytree of which only shapes are read.
      density: fraction kept of all weights that `where` chooses; round-half-even(density · n) of them exactly, at
        least one a leaf if there are as many.
      where: which leaves are sparsified.
      dense: regexes of paths that stay at density 1, typically the first and last layer. They count in the budget:
        the other leaves keep fewer.

    Returns:
      Densities k / size with whole k, so that `select` keeps exactly k; None where not sparsified.

    Raises:
      InputError: a density outside [0, 1], or smaller than the dense leaves are. NoMatchError: a regex without a leaf.

    >>> import jax.numpy as jnp
    >>> params = {"first": {"kernel": jnp.ones((2, 4))}, "last": {"kernel": jnp.ones((4, 8))}}
    >>> uniform(params, 0.5)
    {'first': {'kernel': 0.5}, 'last': {'kernel': 0.5}}
    >>> uniform(params, 0.5, dense=["^first/"])
    {'first': {'kernel': 1.0}, 'last': {'kernel': 0.375}}
    """
    return _allocate(params, density, lambda shape: 1.0, where=where, dense=dense)


def erdos_renyi(
    params: Params, density: float, *, where: Filter | PyTree = filters.weights(), dense: Sequence[str] = ()
) -> PyTree:
    """Densities in proportion to (n_in + n_out) / (n_in · n_out), of the last two axes (Mocanu et al., 2018).

    Small layers stay denser. Leaves that would exceed 1 become dense and the others share what is left. Arguments,
    result and errors are those of `uniform`.

    >>> import jax.numpy as jnp
    >>> erdos_renyi({"a": {"kernel": jnp.ones((20, 20))}, "b": {"kernel": jnp.ones((20, 5))}}, 0.3)
    {'a': {'kernel': 0.23...}, 'b': {'kernel': 0.58}}
    """
    return _allocate(params, density, lambda shape: _sum_over_product(shape[-2:]), where=where, dense=dense)


def erk(
    params: Params,
    density: float,
    *,
    where: Filter | PyTree = filters.weights(),
    dense: Sequence[str] = (),
    power: float = 1.0,
) -> PyTree:
    """Erdős–Rényi-kernel: densities in proportion to (Σ dims / Π dims)^power over all axes (Evci et al., 2020).

    The same as `erdos_renyi` for matrices; `power=0` is `uniform`. Leaves that would exceed 1 become dense and the
    others share what is left. Other arguments, result and errors are those of `uniform`; InputError for a power that
    is negative or not finite.

    >>> import jax.numpy as jnp
    >>> layers = {"0": (784, 300), "1": (300, 100), "2": (100, 10)}
    >>> params = {name: {"kernel": jnp.ones(shape)} for name, shape in layers.items()}
    >>> [round(d["kernel"], 5) for d in erk(params, 0.1).values()]
    [0.07957, 0.2302, 1.0]
    """
    if not 0 <= power < math.inf:
        raise InputError(f"power={power} must be finite and not negative; 1 is ERK, 0 is uniform.")
    return _allocate(params, density, lambda shape: _sum_over_product(shape) ** power, where=where, dense=dense)


def rules(
    params: Params,
    density_rules: Mapping[str, float | None],
    *,
    default: float | None = None,
    where: Filter | PyTree = filters.weights(),
) -> PyTree:
    """Densities by path: the first regex found in a leaf's path decides, else `default` (None: not sparsified).

    Each leaf keeps round-half-even(density · size), at least one weight if density > 0. Raises InputError for a
    density outside [0, 1], NoMatchError for a regex that decides no leaf.

    >>> import jax.numpy as jnp
    >>> params = {"first": {"kernel": jnp.ones((2, 4))}, "last": {"kernel": jnp.ones((4, 8))}}
    >>> rules(params, {"^last/": 0.25}, default=1.0)
    {'first': {'kernel': 1.0}, 'last': {'kernel': 0.25}}
    """
    chosen = filters.only(params, where)
    for name, value in (*density_rules.items(), ("default", default)):
        if value is not None:
            _checked_density(name, value)
    leaves = _leaves(chosen)
    # Over the sparsified leaves alone, so that a rule cannot spend itself on a leaf that is not sparsified.
    resolved = _tree.resolve(density_rules, {leaf.name: leaf.size for leaf in leaves}, default=default)
    densities = []
    for leaf in leaves:
        d = resolved[leaf.name]
        kept = 0 if d is None else max(round(float(d) * leaf.size), 1 if d > 0 else 0)
        densities.append(None if d is None else _ratio(kept, leaf.size))
    return _fill(chosen, densities)


def from_mask(params: Params, mask: Mask) -> PyTree:
    """The densities of a given mask, leaf by leaf: the layer-wise controls of Su et al. (2020) start from these.

    Args:
      params: pytree of which only shapes are read; mask: its structure, leaves with known values.

    Raises InputError for a mask under jit, StructureError if it does not fit the parameters.

    >>> import jax.numpy as jnp
    >>> from_mask({"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, {"w": jnp.array([[True], [False]]), "b": None})
    {'b': None, 'w': 0.5}
    """
    check_fits(params, mask)
    if any(isinstance(m, jax.core.Tracer) for m in jax.tree.leaves(mask)):
        raise InputError("mask is traced; densities are Python floats, so call from_mask outside jit, vmap and grad.")
    # Each entry of a broadcast mask stands for equally many weights.
    return _tree.map_present(lambda m: _ratio(int(np.count_nonzero(m)), math.prod(m.shape)), mask)


class _Leaf(NamedTuple):
    name: str
    shape: tuple[int, ...]
    size: int


def _allocate(
    params: Params,
    density: float,
    raw: Callable[[tuple[int, ...]], float],
    *,
    where: Filter | PyTree,
    dense: Sequence[str],
) -> PyTree:
    """Densities eps · raw(shape), clipped at 1, with eps such that the whole budget is spent."""
    density = _checked_density("density", density)
    chosen = filters.only(params, where)
    leaves = _leaves(chosen)
    budget = round(density * sum(leaf.size for leaf in leaves))
    fixed = _dense_leaves(leaves, dense)
    held = sum(leaves[i].size for i in fixed)
    rest = [i for i in range(len(leaves)) if i not in fixed]
    if held > budget or (not rest and held < budget):
        raise InputError(
            f"density={density} keeps {budget} weights, but the leaves of dense={list(dense)} have {held}; "
            f"{'raise the density or ' if held > budget else ''}keep fewer leaves dense."
        )
    wishes = _solve({i: raw(leaves[i].shape) for i in rest}, {i: leaves[i].size for i in rest}, budget - held)
    counts = _whole(wishes, {i: leaves[i].size for i in rest}, budget - held)
    kept = [leaf.size if i in fixed else counts[i] for i, leaf in enumerate(leaves)]
    return _fill(chosen, [_ratio(k, leaf.size) for k, leaf in zip(kept, leaves)])


def _solve(raw: dict[int, float], sizes: dict[int, int], budget: int) -> dict[int, float]:
    """Real counts: eps · raw · size, or size where that exceeds it, with the given sum."""
    free = [i for i in raw if sizes[i]]
    wishes = {i: float(sizes[i]) for i in raw}
    # Making leaves dense only raises eps, so none has to be taken back, and the loop ends.
    while free:
        spent = sum(sizes[i] for i in raw if i not in free)
        eps = (budget - spent) / sum(raw[i] * sizes[i] for i in free)
        over = [i for i in free if eps * raw[i] > 1]
        if not over:
            return wishes | {i: eps * raw[i] * sizes[i] for i in free}
        free = [i for i in free if i not in over]
    return wishes


def _whole(wishes: dict[int, float], sizes: dict[int, int], budget: int) -> dict[int, int]:
    """Whole counts with the sum `budget`: largest remainders, ties to the first; at least 1 if the budget allows."""
    occupied = [i for i in wishes if sizes[i]]
    least = 1 if budget >= len(occupied) else 0
    counts = {i: min(max(math.floor(wishes[i]), least), sizes[i]) if sizes[i] else 0 for i in wishes}

    def remainder(i: int) -> float:
        return round(wishes[i] - counts[i], 9)  # equal shares differ by rounding of floats only

    # Floors and the minimum of 1 are off by less than one weight a leaf, so these loops are short.
    while sum(counts.values()) < budget:
        counts[max((i for i in occupied if counts[i] < sizes[i]), key=remainder)] += 1
    while sum(counts.values()) > budget:
        counts[min((i for i in occupied if counts[i] > least), key=remainder)] -= 1
    return counts


def _dense_leaves(leaves: list[_Leaf], dense: Sequence[str]) -> set[int]:
    if isinstance(dense, str):
        raise InputError(f"dense={dense!r} is one string; pass a sequence of regexes, as dense=[{dense!r}].")
    found: set[int] = set()
    for regex in dense:
        try:
            matches = {i for i, leaf in enumerate(leaves) if re.search(regex, leaf.name)}
        except re.error as error:
            raise InputError(f"dense: {regex!r} is not a regular expression ({error}).") from error
        if leaves and not matches:
            raise NoMatchError(f"dense: {regex!r} matches no sparsified leaf; leaves: {[leaf.name for leaf in leaves]}")
        found |= matches
    return found


def _leaves(chosen: PyTree) -> list[_Leaf]:
    pairs = zip(_tree.leaves(_tree.names(chosen)), _tree.leaves(chosen), strict=True)
    return [_Leaf(name, tuple(x.shape), math.prod(x.shape)) for name, x in pairs if x is not None]


def _fill(chosen: PyTree, values: list[Any]) -> PyTree:
    """`chosen` with its leaves, in order, replaced by `values`; None stays None."""
    remaining = iter(values)
    return _tree.map_present(lambda _: next(remaining), chosen)


def _ratio(kept: int, size: int) -> float:
    return kept / size if size else 0.0


def _sum_over_product(shape: tuple[int, ...]) -> float:
    """Σ dims / Π dims; 1 for leaves of one axis or none, which have no fan to speak of."""
    size = math.prod(shape)
    return sum(shape) / size if len(shape) > 1 and size > 0 else 1.0


def _checked_density(name: str, value: Any) -> float:
    if isinstance(value, jax.core.Tracer) or not (isinstance(value, numbers.Real) or getattr(value, "ndim", None) == 0):
        raise InputError(
            f"{name}={value} must be a number that is known now: shares are computed from shapes, on the host."
        )
    if not 0 <= value <= 1:
        raise InputError(f"{name}={value} is not a fraction; pass a number between 0 and 1 (the part to keep).")
    return float(value)
