"""Widths by the densities of a mask of weights."""

import math

import numpy as np
from scipy import optimize

from jaxticket import _tree, filters
from jaxticket._check_trees import check_fits
from jaxticket.methods.channels.precrop._program import Cost, layers_of, make_program, round_widths
from jaxticket.structure import Groups
from jaxticket.typing import Filter, Mask, Params


def precrop_densities(
    params: Params,
    groups: Groups,
    fraction: float,
    mask: Mask,
    *,
    cost: Cost = "params",
    where: Filter = filters.weights(),
) -> dict[str, int]:
    """Return the widths that the densities of a mask ask for, such as SynFlow's, within a budget (PreCrop, version 1).

    A layer of density p keeps the part √p of its outputs, since it loses inputs, too. A group keeps the largest part of
    the layers whose outputs are its channels. Where neighbours disagree this alone misses the budget, so that one
    number scales all parts. The published rule was not seen: the paper is known from reviews.

        plan = jt.static(0.1, score=scores.synflow(apply, x), scope=scopes.tree(), rounds=100)
        _, state = jt.init(jt.sparsify(optax.identity(), plan), params)
        widths = precrop_densities(params, groups, 0.1, jt.mask_of(state))

    Args:
      params: the traced variables; only shapes count.
      groups: what `structure.trace` returned.
      fraction: of the cost of the whole network that is kept, in (0, 1].
      mask: the weights that are kept, over `params`; layers without a mask are dense.
      cost: as in `precrop`.
      where: the layers; their outputs lie on the last axis.

    Returns:
      As `precrop`, without growth.

    Raises:
      InputError: as `precrop`.
      StructureError: a mask that does not fit the parameters.

    References:
      PreCropping (2022), arXiv 2203.02549.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure
      >>> from jaxticket.methods.channels.precrop import precrop_densities
      >>> params = {name: {"kernel": jnp.ones((16, 16))} for name in "abc"}
      >>> apply = lambda p, x: x @ p["a"]["kernel"] @ p["b"]["kernel"] @ p["c"]["kernel"]
      >>> groups = structure.trace(apply, params, jnp.ones((1, 16)))
      >>> quarter = jnp.broadcast_to(jnp.arange(16) < 4, (16, 16))
      >>> mask = {"a": {"kernel": quarter}, "b": {"kernel": None}, "c": {"kernel": None}}
      >>> precrop_densities(params, groups, 0.5, mask)
      {'a/kernel:1': 6, 'b/kernel:1': 13}
    """
    program = make_program(params, groups, fraction, cost, where)
    masks = dict(zip(_tree.leaves(_tree.names(params)), _tree.leaves(check_fits(params, mask)), strict=True))
    shapes = layers_of(params, groups, where)
    parts = np.zeros(len(groups))
    for index, group in enumerate(groups):
        for path, axis, _ in group.members:
            if path in shapes and axis == len(shapes[path]) - 1:
                density = 1.0 if masks[path] is None else float(np.mean(masks[path]))
                parts[index] = max(parts[index], math.sqrt(density))
    parts = np.where(parts > 0, parts, 1.0)  # no layer puts these out, or none of its weights is kept
    exact = lambda log: np.clip(program.full * np.exp(log) * parts, 1, program.full)
    miss = lambda log: program.total.of(exact(log)) - program.budget
    bounds = (-np.log(program.full.max()), -np.log(parts.min()))
    return round_widths(groups, exact(optimize.brentq(miss, *bounds)), program)
