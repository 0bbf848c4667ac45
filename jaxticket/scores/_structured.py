"""Scores of filters from weights alone: those that others can replace, and those that their batch norm scales away.

Scores have size 1 on all axes but the channels', for `units.axis`. The norms of filters do not need a score of their
own: `scores.magnitude` with `units.axis(-1, reduce=units.total)` is l1 (Li et al., 2017), with `units.l2` it is l2.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _stacked, _tree
from jaxticket._check_trees import check_arrays
from jaxticket._checks import check_fraction
from jaxticket._dtypes import wide
from jaxticket.errors import InputError, NoMatchError, StructureError
from jaxticket.masks import apply_mask
from jaxticket.selection import select
from jaxticket.typing import Mask, Params, ScoreFn, Scores, Stacked
from jaxticket.units import normalise_axis

Rule = Callable[[str], str | None]  # path of a kernel -> path of the scale of its batch norm; None: not scored


def fpgm(*, norm_density: float = 1.0, axis: int = -1, stacked: Stacked | None = None) -> ScoreFn:
    """Score filters by Σ_g ‖W_f − W_g‖₂ over a leaf's filters (He et al., 2019, FPGM).

    Filters near the geometric median are replaceable. Filters that a mask has removed count in no sum. Leaves of one
    axis or none score None.

    Args:
      norm_density: the fraction of filters that first survive by their norm, as published (0.9 there, beside a density
        of 0.6). The others rank below all survivors, by their norm, and count in no sum. 1 leaves this out.
      axis: the filters' axis of the kernels.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf, in which `axis` counts.

    Returns:
      A ScoreFn. Scores are float32. It raises InputError for leaves without that axis.

    Raises:
      InputError: a norm_density outside [0, 1].

    Examples:
      >>> import jax.numpy as jnp
      >>> fpgm()({"kernel": jnp.array([[1.0, 0.0, -1.0]])})  # the zero filter is the median
      {'kernel': Array([[3., 2., 3.]], dtype=float32)}
    """
    check_fraction("norm_density", norm_density)
    stack = _stacked.read(stacked)

    def score(params: Params, *, mask: Mask | None = None, **_: Any) -> Scores:
        check_arrays("params", params)
        masked = params if mask is None else apply_mask(params, mask)
        if mask is None:
            mask = _tree.map_present(lambda p: None, params)
        axes = iter(stack.axes(masked))
        kept = _tree.tree_map(lambda p, m: _present_by_layer(p, m, next(axes)), masked, mask)
        return stack.map(lambda p, k: _tree.tree_map(score_leaf, p, k), masked, kept)

    def score_leaf(kernel: jax.Array | None, kept: jax.Array | None) -> jax.Array | None:
        if kernel is None or kept is None or kernel.ndim < 2 or not jnp.issubdtype(kernel.dtype, jnp.floating):
            return None
        at = normalise_axis(axis, kernel.shape, "fpgm")
        shape = [n if a == at else 1 for a, n in enumerate(kernel.shape)]
        filters = jnp.moveaxis(kernel, at, 0).reshape(shape[at], -1)
        filters = wide(filters)
        others = [a for a in range(kernel.ndim) if a != at]
        alive = jnp.broadcast_to(jnp.any(kept, others), (shape[at],))
        norms = jnp.linalg.norm(filters, axis=1)
        survive = select(norms, norm_density, mask=alive)
        # Pair by pair: expanding the squares would cancel where filters share a large mean.
        distances = jax.lax.map(lambda f: jnp.linalg.norm(filters - f[None], axis=1), filters)
        sums = jnp.sum(distances, 1, where=survive[None])
        return jnp.where(survive, sums, -1 / (1 + norms)).reshape(shape)

    return score


def slimming(scale_of: Rule | tuple[str, str], *, axis: int = -1, stacked: Stacked | None = None) -> ScoreFn:
    """Score output channels by |γ| of the batch norm that follows their kernel (Liu et al., 2017).

    It was published with `scopes.tree()`, after training with an l1 penalty on γ. Where a channel is removed, its γ, β
    and bias must be removed too: β alone would leak a constant through the nonlinearity.

    Args:
      scale_of: path of a kernel -> path of its scale, such as lambda path: path.replace("conv", "norm"), or None for
        leaves that are not scored; or a pair (regex, replacement) as in `re.sub`, where leaves without a match are not
        scored. Paths are those of the parameters, such as 'block/conv/kernel'.
      axis: the kernels' axis of output channels.
      stacked: {regex of a path: axes} of kernels and scales that stack layers along these axes; `axis` counts within a
        layer.

    Returns:
      A ScoreFn.

    Raises:
      InputError: a regex that cannot be read.
      NoMatchError: no kernel or no such scale, when the score is called.
      StructureError: a scale and a kernel whose numbers of channels differ, when the score is called.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"conv": {"kernel": jnp.ones((3, 2))}, "norm": {"scale": jnp.array([0.5, -2.0])}}
      >>> slimming(("conv/kernel", "norm/scale"))(params)["conv"]
      {'kernel': Array([[0.5, 2. ]], dtype=float32)}
    """
    rule = scale_of if callable(scale_of) else _substitution(*scale_of)
    stack = _stacked.read(stacked)

    def score(params: Params, *, mask: Mask | None = None, **_: Any) -> Scores:
        check_arrays("params", params)
        masked = params if mask is None else apply_mask(params, mask)
        names = _tree.names(masked)
        leaves = dict(zip(_tree.leaves(names), _tree.leaves(masked), strict=True))
        axes = dict(zip(leaves, stack.axes(masked), strict=True))
        if jax.tree.leaves(params) and all(rule(name) is None for name in leaves):
            raise NoMatchError(f"slimming: the rule matches no kernel; leaves: {list(leaves)}")

        def score_leaf(name: str, kernel: jax.Array | None) -> jax.Array | None:
            path = rule(name)
            if kernel is None or path is None:
                return None
            scale = leaves.get(path)
            if scale is None:
                raise NoMatchError(f"slimming: {path!r}, the scale of {name!r}, is not a leaf; leaves: {list(leaves)}")
            layer = _stacked.slice_shape(kernel.shape, axes[name])
            at = normalise_axis(axis, layer, "slimming")
            counts = [[x.shape[a] for a in axes[own]] for own, x in ((name, kernel), (path, scale))]
            if math.prod(_stacked.slice_shape(scale.shape, axes[path])) != layer[at] or counts[0] != counts[1]:
                raise StructureError(
                    f"slimming: {path!r} has shape {scale.shape}, but axis {axis} of {name!r} has {layer[at]} channels"
                    f"{f' in each of {counts[0]} layers' if counts[0] else ''}; correct the rule, axis= or stacked=."
                )
            shape = [n if a == at else 1 for a, n in enumerate(layer)]
            by_layer = _stacked.map_slices(lambda x: [x[0], jnp.abs(x[0]).reshape(shape)], [axes[path], axes[name]], 1)
            return by_layer([scale, kernel])[1]

        return _tree.tree_map(score_leaf, names, masked)

    return score


def _present_by_layer(p: jax.Array | None, kept: jax.Array | None, axes: _stacked.Axes) -> jax.Array | None:
    """Return the mask of a leaf, all of it where there is none, with the whole length of its stacked axes."""
    if p is None:
        return None
    kept = jnp.ones((1,) * p.ndim, bool) if kept is None else kept
    return jnp.broadcast_to(kept, [p.shape[a] if a in axes else n for a, n in enumerate(kept.shape)])


def _substitution(regex: str, replacement: str) -> Rule:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise InputError(f"scale_of: {regex!r} is not a regular expression ({error})") from error

    def rule(path: str) -> str | None:
        scale, times = pattern.subn(replacement, path)
        return scale if times else None

    return rule
