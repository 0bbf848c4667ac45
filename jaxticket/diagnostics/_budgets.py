"""Fair budgets for training a pruned network from scratch, and the FLOPs by which they are counted."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from jaxticket import _tree, filters, masks
from jaxticket._checks import check_count, check_number
from jaxticket.errors import InputError
from jaxticket.typing import Filter, Mask, Params, PyTree


class Budget(NamedTuple):
    """A training's length in epochs and steps, and the steps at which its learning rate drops."""

    epochs: int
    steps: int
    milestones: tuple[int, ...]


def flops(
    params: Params,
    *,
    positions: Mapping[str, int] | None = None,
    costs: Mapping[str, int] | None = None,
    mask: Mask | None = None,
    where: Filter = filters.weights(),
) -> int:
    """Return the FLOPs of one example's forward pass through the layers with weights.

    Each weight costs two FLOPs at each output position: a multiplication and an addition. Biases, normalisation,
    activations and pooling count only by `costs`. The code of Liu et al., "Rethinking the Value of Network Pruning"
    (2019), counts 1 for each output of a bias, 2 for each of a batch norm, 1 for each of a ReLU module, and k² for each
    output of k × k pooling. Products of activations (attention scores) are not counted.

    Args:
      params: parameters, or only their shapes (`jax.eval_shape`).
      positions: regular expression on path names -> output positions of the layer: height × width for a convolution,
        the length of the sequence for a layer on tokens. First match wins; 1 for layers that no rule names.
      costs: regular expression on path names -> FLOPs of each entry of a leaf that is not a kernel, at each output
        position. {"bias": 1, "scale": 2} counts biases, and norms with a ReLU each. First match wins; 0 for leaves that
        no rule names.
      mask: if given, only the weights it keeps are counted (None leaves in full).
      where: the leaves that are kernels.

    Returns:
      A Python int.

    Raises:
      InputError: positions or costs below 1.
      NoMatchError: a rule or `where` that matches nothing.
      StructureError: a mask that does not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"conv": {"kernel": jnp.ones((3, 3, 1, 4))}, "output": {"kernel": jnp.ones((4, 10))}}
      >>> flops(params, positions={"conv": 28 * 28})
      56528
      >>> flops(params | {"bias": jnp.ones(10)}, positions={"conv": 28 * 28}, costs={"bias": 1})
      56538
    """
    kernels = filters.only(params, where)
    places = _tree.resolve(positions or {}, params, default=1)
    _check_positive(**{f"positions[{rule!r}]": n for rule, n in (positions or {}).items()})
    everything = _tree.tree_map(lambda _: None, params)
    rows = masks.summary(params, everything if mask is None else mask).rows
    kept = {row.path: row.kept for row in rows}
    each = _tree.resolve(costs or {}, params, default=0)
    _check_positive(**{f"costs[{rule!r}]": n for rule, n in (costs or {}).items()})

    names = _tree.names(params)
    of_kernels = set(jax.tree.leaves(_tree.map_present(lambda name, _: name, names, kernels)))

    def count(name: str, _: PyTree, positions: int, cost: int) -> int:
        return (2 if name in of_kernels else cost) * kept[name] * positions

    return sum(jax.tree.leaves(_tree.map_present(count, names, params, places, each)))


def scratch_e(epochs: int, *, steps_per_epoch: int, milestones: Sequence[float] = (0.5, 0.75)) -> Budget:
    """Return the budget Scratch-E: fresh weights, for as many epochs as the large network had (Liu et al., 2019).

    Args:
      epochs: the epochs of the large network's training.
      steps_per_epoch: the number of steps in an epoch.
      milestones: the fractions of the training after which the learning rate drops. They are returned as steps, after
        ⌊fraction · epochs⌋ whole epochs.

    Returns:
      A Budget.

    Raises:
      InputError: sizes below 1, or milestones that do not rise between 0 and 1.

    Examples:
      >>> scratch_e(160, steps_per_epoch=10)
      Budget(epochs=160, steps=1600, milestones=(800, 1200))
    """
    _check_positive(epochs=epochs, steps_per_epoch=steps_per_epoch)
    if not isinstance(milestones, Sequence) or isinstance(milestones, str):
        raise InputError(f"milestones={milestones!r} is not a sequence; pass fractions of the training, as (0.5, 0.75)")
    for fraction in milestones:
        check_number(milestones=fraction)
    if any(not low < high for low, high in itertools.pairwise([0.0, *milestones, 1.0])):
        raise InputError(f"milestones={tuple(milestones)} must be fractions of the training that rise between 0 and 1")
    steps = epochs * steps_per_epoch
    return Budget(epochs, steps, tuple(int(fraction * epochs) * steps_per_epoch for fraction in milestones))


def scratch_b(
    epochs: int,
    *,
    dense_flops: int,
    pruned_flops: int,
    steps_per_epoch: int,
    milestones: Sequence[float] = (0.5, 0.75),
    cap: float | None = None,
) -> Budget:
    """Return the budget Scratch-B: fresh weights, for the FLOPs of the large network's training (Liu et al., 2019).

    It has ⌊epochs · dense_flops / pruned_flops⌋ epochs, with the learning rate dropping at the same fractions of these.

    Args:
      epochs: the epochs of the large network's training.
      dense_flops: the FLOPs of one example for the large network, as `flops` counts them.
      pruned_flops: the FLOPs of one example for the pruned network.
      steps_per_epoch: the number of steps in an epoch.
      milestones: the fractions of the training after which the learning rate drops. On ImageNet the authors drop it
        every ⌊E / 3⌋ of E epochs. (1 / 3, 2 / 3) approximates that: of 128 epochs, the second drop is after 85, not 84,
        and there is none after 126.
      cap: at most this many times `epochs`, rounded down. The authors have none on CIFAR. On ImageNet they stop at 2,
        except for network slimming and weight-level pruning.

    Returns:
      A Budget.

    Raises:
      InputError: sizes or milestones that `scratch_e` rejects, pruned_flops not in 1…dense_flops, or a cap below 1.

    Examples:
      >>> scratch_b(160, dense_flops=300, pruned_flops=100, steps_per_epoch=10)
      Budget(epochs=480, steps=4800, milestones=(2400, 3600))
    """
    _check_positive(epochs=epochs)
    check_number(dense_flops=dense_flops, pruned_flops=pruned_flops)
    if not 1 <= pruned_flops <= dense_flops < math.inf:
        raise InputError(f"pruned_flops={pruned_flops} must lie between 1 and dense_flops={dense_flops}")
    if cap is not None:
        check_number(cap=cap)
    if cap is not None and not cap >= 1:
        raise InputError(f"cap={cap} must be at least 1, the training of scratch_e")
    longer = epochs * dense_flops // pruned_flops  # of integers, without rounding their ratio first
    allowed = longer if cap is None else int(min(longer, cap * epochs))
    return scratch_e(allowed, steps_per_epoch=steps_per_epoch, milestones=milestones)


def _check_positive(**sizes: int) -> None:
    for name, value in sizes.items():
        check_count(1, **{name: value})
