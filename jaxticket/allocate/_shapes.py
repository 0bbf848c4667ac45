"""Densities from the shapes of the leaves alone."""

import math
from collections.abc import Mapping, Sequence

from jaxticket import _stacked, _tree, filters
from jaxticket._checks import check_number
from jaxticket.allocate._shares import check_density, fill, leaves_of, ratio, share
from jaxticket.errors import InputError
from jaxticket.typing import Filter, Params, PyTree, Stacked

LAST_DENSITY = 0.2  # the least density of the last layer in uniform+


def uniform(
    params: Params,
    density: float,
    *,
    where: Filter | PyTree = filters.weights(),
    dense: Sequence[str] = (),
    minimum: int = 0,
    stacked: Stacked | None = None,
) -> PyTree:
    """Return the same density for each leaf, up to rounding.

    Args:
      params: pytree of which only shapes are read.
      density: the fraction kept of all weights that `where` chooses; round-half-even(density · n) of them exactly, at
        least one a leaf if there are as many.
      where: the leaves that are sparsified.
      dense: regexes of paths that stay at density 1, typically the first and last layer. They count in the budget: the
        other leaves keep fewer.
      minimum: the number of weights that every leaf keeps (all of a leaf that has fewer), against layer collapse.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      Densities k / size with whole k, so that `select` keeps exactly k; None where not sparsified. For a stacked leaf
      it is an array of a density a layer, which broadcasts to the leaf.

    Raises:
      InputError: a density outside [0, 1], or less than dense leaves and minima hold.
      NoMatchError: a regex without a leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"first": {"kernel": jnp.ones((2, 4))}, "last": {"kernel": jnp.ones((4, 8))}}
      >>> uniform(params, 0.5)
      {'first': {'kernel': 0.5}, 'last': {'kernel': 0.5}}
      >>> uniform(params, 0.5, dense=["^first/"])
      {'first': {'kernel': 1.0}, 'last': {'kernel': 0.375}}
    """
    return share(
        params, density, lambda shape: 1.0, where=where, least=_at_one(dense), minimum=minimum, stacked=stacked
    )


def uniform_plus(
    params: Params,
    density: float,
    *,
    first: str,
    last: str,
    where: Filter | PyTree = filters.weights(),
    minimum: int = 0,
    stacked: Stacked | None = None,
) -> PyTree:
    """Return uniform+: the first layer stays dense, the last keeps at least a fifth (Gale et al., 2019; Lee et al.,
    2021).

    The other leaves share the rest, so the budget is kept exactly. In the code of Lee et al. the first layer stays
    dense only if it is a convolution.

    Args:
      params: pytree of which only shapes are read.
      density: the fraction kept of all weights that `where` chooses.
      first: the regex of the first layer's path; the order of a tree is not that of the layers.
      last: the regex of the last layer's path.
      where: the leaves that are sparsified.
      minimum: the number of weights that every leaf keeps.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      Densities like those of `uniform`.

    Raises:
      InputError: a density outside [0, 1], or less than these layers and minima hold.
      NoMatchError: a regex without a leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {name: jnp.ones((10, 10)) for name in ("conv", "hidden", "out")}
      >>> uniform_plus(params, 0.43, first="conv", last="out", where=filters.everything())
      {'conv': 1.0, 'hidden': 0.09, 'out': 0.2}
    """
    least = {first: 1.0, last: LAST_DENSITY}
    return share(params, density, lambda shape: 1.0, where=where, least=least, minimum=minimum, stacked=stacked)


def erdos_renyi(
    params: Params,
    density: float,
    *,
    where: Filter | PyTree = filters.weights(),
    dense: Sequence[str] = (),
    minimum: int = 0,
    stacked: Stacked | None = None,
) -> PyTree:
    """Return densities in proportion to (n_in + n_out) / (n_in · n_out), of the last two axes (Mocanu et al., 2018).

    Small layers stay denser. Leaves that would exceed 1 become dense and the others share the rest.

    Args:
      params: pytree of which only shapes are read.
      density: the fraction kept of all weights that `where` chooses.
      where: the leaves that are sparsified.
      dense: regexes of paths that stay at density 1, within the budget.
      minimum: the number of weights that every leaf keeps.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      Densities like those of `uniform`.

    Raises:
      InputError: a density outside [0, 1], or less than dense leaves and minima hold.
      NoMatchError: a regex without a leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> erdos_renyi({"a": {"kernel": jnp.ones((20, 20))}, "b": {"kernel": jnp.ones((20, 5))}}, 0.3)
      {'a': {'kernel': 0.23...}, 'b': {'kernel': 0.58}}
    """
    raw = lambda shape: _sum_over_product(shape[-2:])
    return share(params, density, raw, where=where, least=_at_one(dense), minimum=minimum, stacked=stacked)


def erk(
    params: Params,
    density: float,
    *,
    where: Filter | PyTree = filters.weights(),
    dense: Sequence[str] = (),
    minimum: int = 0,
    power: float = 1.0,
    stacked: Stacked | None = None,
) -> PyTree:
    """Return Erdős–Rényi-kernel densities, in proportion to (Σ dims / Π dims)^power over all axes (Evci et al., 2020).

    For matrices this is `erdos_renyi`; `power=0` is `uniform`; ERK+ is `dense=` of the last layer (Liu et al., 2022).
    Leaves that would exceed 1 become dense and the others share the rest.

    Args:
      params: pytree of which only shapes are read.
      density: the fraction kept of all weights that `where` chooses.
      where: the leaves that are sparsified.
      dense: regexes of paths that stay at density 1, within the budget.
      minimum: the number of weights that every leaf keeps.
      power: the exponent of the ratio, 1 in the paper.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      Densities like those of `uniform`.

    Raises:
      InputError: a density outside [0, 1] or less than dense leaves and minima hold, or a power that is negative or not
        finite.
      NoMatchError: a regex without a leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> layers = {"0": (784, 300), "1": (300, 100), "2": (100, 10)}
      >>> params = {name: {"kernel": jnp.ones(shape)} for name, shape in layers.items()}
      >>> [round(d["kernel"], 5) for d in erk(params, 0.1).values()]
      [0.07957, 0.2302, 1.0]
    """
    check_number(power=power)
    if not 0 <= power < math.inf:
        raise InputError(f"power={power} must be finite and not negative; 1 is ERK, 0 is uniform.")
    raw = lambda shape: _sum_over_product(shape) ** power
    return share(params, density, raw, where=where, least=_at_one(dense), minimum=minimum, stacked=stacked)


def rules(
    params: Params,
    density_rules: Mapping[str, float | None],
    *,
    default: float | None = None,
    where: Filter | PyTree = filters.weights(),
    stacked: Stacked | None = None,
) -> PyTree:
    """Return densities by path: the first regex that matches in a leaf's path decides, else `default`.

    Each leaf keeps round-half-even(density · size), at least one weight if density > 0.

    Args:
      params: pytree of which only shapes are read.
      density_rules: regex on path names -> density; None means that the leaf is not sparsified.
      default: the density of leaves that no rule names; None means not sparsified.
      where: the leaves to which the rules apply.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      Densities like those of `uniform`.

    Raises:
      InputError: a density outside [0, 1].
      NoMatchError: a regex that decides no leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"first": {"kernel": jnp.ones((2, 4))}, "last": {"kernel": jnp.ones((4, 8))}}
      >>> rules(params, {"^last/": 0.25}, default=1.0)
      {'first': {'kernel': 1.0}, 'last': {'kernel': 0.25}}
    """
    if not isinstance(density_rules, Mapping):
        raise InputError(f"density_rules is a {type(density_rules).__name__}; pass a mapping {{regex: density}}.")
    chosen, stack = filters.only(params, where), _stacked.read(stacked)
    for name, value in (*density_rules.items(), ("default", default)):
        if value is not None:
            check_density(str(name), value)
    leaves = leaves_of(chosen, stack)
    # Over the sparsified leaves alone, so that a rule cannot spend itself on a leaf that is not sparsified.
    resolved = _tree.resolve(density_rules, {leaf.name: leaf.size for leaf in leaves}, default=default)
    densities = []
    for leaf in leaves:
        d = resolved[leaf.name]
        kept = 0 if d is None else max(round(float(d) * leaf.size), 1 if d > 0 else 0)
        densities.append(None if d is None else ratio(kept, leaf.size))
    return fill(chosen, densities, stack)


def _at_one(dense: Sequence[str]) -> dict[str, float]:
    if isinstance(dense, str):
        raise InputError(f"dense={dense!r} is one string; pass a sequence of regexes, as dense=[{dense!r}].")
    return dict.fromkeys(dense, 1.0)


def _sum_over_product(shape: tuple[int, ...]) -> float:
    """Return Σ dims / Π dims; 1 for leaves of one axis or none, which do not have a fan."""
    size = math.prod(shape)
    return sum(shape) / size if len(shape) > 1 and size > 0 else 1.0
