"""UDFC: what removed channels carried is rebuilt from those that stay, without data and without training.

The channels of a layer are z = relu(ŵ · x + b̂), with its batch norm folded in. A removed filter is approximated by a
combination of kept ones, and the layers that read it take its weights over in the same combination. Rounding to few
bits is made up for likewise, by a factor of the weights that read a filter. The published method is known from its
abstract and a summary; no code is public, so the exact equations are a reconstruction.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from jaxticket import _tree
from jaxticket._checks import check_count, check_number
from jaxticket.errors import InputError
from jaxticket.structure import Channels, Group, Groups, Member, channels, spread
from jaxticket.typing import PyTree

__all__ = ["udfc"]

_VECTORS = ("scale", "bias", "mean", "var")  # of a layer and its norm, by the last names of their paths
Leaves = dict[str, np.ndarray]  # path -> the leaf in float64


class _Layer(NamedTuple):
    """A layer whose outputs are a group of their own, and the layers that read it."""

    group: Group
    kernel: Member
    bias: str | None
    norm: dict[str, str]  # scale, bias, mean, var -> path
    readers: list[Member]


def udfc(
    variables: PyTree,
    groups: Groups,
    kept: Channels,
    *,
    shift_weight: float = 0.01,
    ridge: float = 0.008,
    nonnegative: bool = False,
    bits: int | None = None,
    epsilon: float = 1e-5,
) -> PyTree:
    """Remove channels, and let the layers that read them read those that stay instead (UDFC; Bai et al., 2023).

        s = argmin ‖ŵ_j − Σ s_i ŵ_i‖² + shift_weight · (b̂_j − Σ s_i b̂_i)² + ridge · ‖s‖²

    over the kept channels i, for each removed channel j; then the weights that read i get s_i times those that read j.
    Layers follow each other from the inputs to the outputs. Kernels lie as in flax, (…, inputs, outputs), beside leaves
    named bias, scale, mean and var. Groups with several layers before them, as a residual stream has, lose their
    channels without anything in their place.

    Args:
      variables: the trained variables.
      groups: what `structure.trace` returned.
      kept: the channels that stay, as in `structure.channels`; choose them by any score.
      shift_weight: the weight of the shifts in the fit (reconstruction: the summary's α₁).
      ridge: the penalty of large factors (reconstruction: the summary's α₂).
      nonnegative: whether factors must not be negative, since relu(−z) is not −relu(z); the paper does not say.
      bits: also rounds the kernels of these layers to so many bits, symmetrically with one step a kernel; None does
        not. The outputs of a rounded filter are scaled back where they are read.
      epsilon: of the batch norms.

    Returns:
      The variables at their old sizes, with removed channels zero, for `structure.shrink`.

    Raises:
      InputError: a mask that does not fit the groups, or numbers out of their range.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure
      >>> from jaxticket.methods.channels.udfc import udfc
      >>> params = {"a": jnp.array([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]), "b": jnp.array([[1.0], [1.0], [1.0]])}
      >>> groups = structure.trace(lambda p, x: jnp.maximum(x @ p["a"], 0) @ p["b"], params, jnp.ones((4, 2)))
      >>> kept = {"a:1": jnp.array([True, False, True])}  # the second channel is twice the first
      >>> udfc(params, groups, kept, shift_weight=0, ridge=0)["b"].T
      Array([[3., 0., 1.]], dtype=float32)
    """
    check_number(shift_weight=shift_weight, ridge=ridge, epsilon=epsilon)
    for name, value in {"shift_weight": shift_weight, "ridge": ridge, "epsilon": epsilon}.items():
        if not 0 <= value < math.inf:
            raise InputError(f"{name} is {value}; it must be at least 0 and finite")
    if bits is not None:
        check_count(2, bits=bits)
    masks = channels(kept, groups)
    names = _tree.names(variables)
    paths = _tree.present_names(variables)
    leaves = dict(zip(paths, (np.asarray(x, np.float64) for x in jax.tree.leaves(variables)), strict=True))
    for layer in _in_order(_layers(groups, leaves)):
        stay = masks[layer.group.name]
        if not stay.all():
            filters, shifts = _folded(layer, leaves, epsilon)
            factors = _combine(filters, shifts, stay, shift_weight=shift_weight, ridge=ridge, nonnegative=nonnegative)
            for reader in layer.readers:
                _take_over(leaves, reader, stay, factors)
            _drop(leaves, layer, ~stay)
        if bits is not None:
            _round(layer, leaves, bits, shift_weight=shift_weight, epsilon=epsilon)

    def finish(name: str, x: Any, mask: Any) -> Any:
        if x is None:
            return None
        new = jnp.asarray(leaves[name], x.dtype)
        return new if mask is None else jnp.where(mask, new, 0).astype(x.dtype)

    return _tree.tree_map(finish, names, variables, spread(masks, groups, variables))


def _combine(
    filters: np.ndarray,
    shifts: np.ndarray,
    kept: np.ndarray,
    *,
    shift_weight: float,
    ridge: float,
    nonnegative: bool,
) -> np.ndarray:
    """Return the factors of the kept channels in the place of each removed one: (removed, kept).

    Args:
      filters: ŵ, (channels, inputs).
      shifts: b̂, (channels,).
      kept: (channels,) of bool.
      shift_weight: as in `udfc`.
      ridge: as in `udfc`.
      nonnegative: as in `udfc`.
    """
    root = math.sqrt(shift_weight)
    rows = np.concatenate([filters.T, root * shifts[None]])
    system = np.concatenate([rows[:, kept], math.sqrt(ridge) * np.eye(kept.sum())])
    goals = np.concatenate([rows[:, ~kept], np.zeros((kept.sum(), (~kept).sum()))])
    if nonnegative:
        return np.array([optimize.nnls(system, goal)[0] for goal in goals.T]).reshape(-1, kept.sum())
    return np.linalg.lstsq(system, goals, rcond=None)[0].T


def _quantise(weights: np.ndarray, step: float) -> np.ndarray:
    """Return weights rounded to multiples of a step, ties to the even one."""
    return weights if step == 0 else step * np.round(weights / step)


def _rescale(filters: np.ndarray, rounded: np.ndarray, shifts: np.ndarray, *, shift_weight: float) -> np.ndarray:
    """Return for each channel the factor by which its rounded filter is nearest to the filter: (channels,).

    Args:
      filters: ŵ, (channels, inputs).
      rounded: the same of rounded weights.
      shifts: b̂, (channels,).
      shift_weight: as in `udfc`.
    """
    shared = shift_weight * shifts**2
    size = (rounded**2).sum(1) + shared
    return np.where(size > 0, ((filters * rounded).sum(1) + shared) / np.where(size > 0, size, 1), 1.0)


def _layers(groups: Groups, leaves: Leaves) -> list[_Layer]:
    """Return the layers whose outputs are the only ones of their group, and whose readers are all kernels."""
    layers = []
    for group in groups:
        members = [m for m in group.members if m.path in leaves]
        kernels = [m for m in members if _name(m.path) not in _VECTORS]
        sources = [m for m in kernels if m.axis == leaves[m.path].ndim - 1]
        readers = [m for m in kernels if m.axis == leaves[m.path].ndim - 2]
        if len(sources) != 1 or not readers or len(kernels) != 1 + len(readers):
            continue
        bias = f"{sources[0].path.rpartition('/')[0]}/bias"
        vectors = {m.path for m in members if _name(m.path) in _VECTORS}
        norm = {_name(path): path for path in vectors - {bias}}
        alone = len(norm) == len(vectors - {bias})  # a second norm would need an order
        if alone and all(len(positions) == 1 for positions in sources[0].positions):
            layers.append(_Layer(group, sources[0], bias if bias in vectors else None, norm, readers))
    return layers


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _in_order(layers: list[_Layer]) -> list[_Layer]:
    """Return the layers such that each comes behind those that it reads."""
    waiting, ordered = list(layers), []
    while waiting:
        read = {reader.path for layer in waiting for reader in layer.readers}
        ready = [layer for layer in waiting if layer.kernel.path not in read] or waiting[:1]
        ordered += ready
        waiting = [layer for layer in waiting if layer not in ready]
    return ordered


def _folded(layer: _Layer, leaves: Leaves, epsilon: float, kernel: np.ndarray | None = None) -> tuple[Any, Any]:
    """Return the filters and the shifts of a layer with its norm: (channels, inputs) and (channels,)."""
    kernel = leaves[layer.kernel.path] if kernel is None else kernel
    order = np.array(layer.kernel.positions)[:, 0]
    filters = kernel.reshape(-1, kernel.shape[-1]).T[order]
    read = lambda path, default: np.full(len(order), default) if path is None else leaves[path].ravel()[order]
    norm = {name: layer.norm.get(name) for name in _VECTORS}
    variance = 1.0 if norm["var"] is None else read(norm["var"], 0.0) + epsilon
    gain = read(norm["scale"], 1.0) / np.sqrt(variance)
    shifts = read(norm["bias"], 0.0) + gain * (read(layer.bias, 0.0) - read(norm["mean"], 0.0))
    return gain[:, None] * filters, shifts


def _take_over(leaves: Leaves, reader: Member, kept: np.ndarray, factors: np.ndarray) -> None:
    """Add to what reads the kept channels the factors times what reads the removed ones, entry by entry."""
    positions = np.array(reader.positions)
    rows = np.moveaxis(leaves[reader.path], reader.axis, 0).copy()
    gone, stays = rows[positions[~kept]], positions[kept]
    rows[stays] += np.tensordot(factors.T, gone, 1)
    leaves[reader.path] = np.moveaxis(rows, 0, reader.axis)


def _drop(leaves: Leaves, layer: _Layer, gone: np.ndarray) -> None:
    for member in layer.group.members:
        if member.path in leaves:
            rows = np.moveaxis(leaves[member.path], member.axis, 0).copy()
            rows[np.array(member.positions)[gone].ravel()] = 0
            leaves[member.path] = np.moveaxis(rows, 0, member.axis)


def _round(layer: _Layer, leaves: Leaves, bits: int, *, shift_weight: float, epsilon: float) -> None:
    """Round the kernel of a layer, and scale what reads it."""
    kernel = leaves[layer.kernel.path]
    rounded = _quantise(kernel, float(np.abs(kernel).max()) / (2 ** (bits - 1) - 1))
    filters, shifts = _folded(layer, leaves, epsilon)
    factors = _rescale(filters, _folded(layer, leaves, epsilon, rounded)[0], shifts, shift_weight=shift_weight)
    leaves[layer.kernel.path] = rounded
    for reader in layer.readers:
        rows = np.moveaxis(leaves[reader.path], reader.axis, 0).copy()
        positions = np.array(reader.positions)
        rows[positions] *= factors.reshape(-1, *(1,) * rows[positions[:, 0]].ndim)
        leaves[reader.path] = np.moveaxis(rows, 0, reader.axis)
