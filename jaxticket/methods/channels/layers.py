"""Layer tickets: whole blocks of a residual network are removed, at initialisation or later (Jordao et al., 2023).

A block is a subtree of the parameters that adds to a stream, x + f(x); without it the stream passes by. A network that
reads its number of blocks from its parameters, as those of `jaxticket.models` do, runs without the subtree, and saves
time on any device. Blocks are scored at initialisation by a score of their weights (SNIP, GraSP), or in a trained
network by what changes without them. Then the p least important of all stages go at once.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree, units
from jaxticket._check_trees import check_arrays
from jaxticket._checks import check_count
from jaxticket._dtypes import wide
from jaxticket.errors import InputError, NoMatchError
from jaxticket.masks import apply_mask
from jaxticket.typing import Mask, Params, PyTree, Scores
from jaxticket.units import Reduce

__all__ = ["block_mask", "measure_blocks", "remove_blocks", "score_blocks", "select_blocks"]

BLOCKS = r"(.*/)?block\d+"
Distance = Callable[[Any, Any], Any]  # (outputs of the whole network, outputs without a block) -> scalar


def score_blocks(scores: Scores, *, blocks: str = BLOCKS, reduce: Reduce = units.total) -> dict[str, float]:
    """Return one score a block of scores of weights, by default their sum.

    With `scores.snip` it is the sum of |p · g|, and with `scores.grasp` the signed sum of p · (H g): in the paper both
    rank blocks at initialisation. How it makes the score of a block from those of weights is not stated.

    Args:
      scores: scores of weights; None leaves count for nothing.
      blocks: regex of the path of a block.
      reduce: turns the scores of the weights of a block into one: `units.total`, `mean`, `largest` or `l2`.

    Returns:
      path of a block -> score, in the order of the network: by stage, and by number in it.

    Raises:
      NoMatchError: no scored leaf lies in a block.

    Examples:
      >>> import jax.numpy as jnp
      >>> weights = {"block1": {"kernel": jnp.array([3.0, -3.0])}, "block2": {"kernel": jnp.array([1.0])}}
      >>> score_blocks(weights)
      {'block1': 0.0, 'block2': 1.0}
    """
    check_arrays("scores", scores)
    members: dict[str, list[jax.Array]] = {}
    for name, leaf in zip(_tree.leaves(_tree.names(scores)), _tree.leaves(scores), strict=True):
        block = _block_of(name, _tree.compile_regex("blocks", blocks))
        if leaf is not None and block is not None:
            members.setdefault(block, []).append(wide(leaf).ravel())
    if not members:
        raise NoMatchError(f"blocks={blocks!r} matches the path of no scored leaf, such as {_some(scores)}")
    pooled = {block: float(reduce(jnp.concatenate(members[block]), (0,), None)[0]) for block in members}
    return {block: pooled[block] for block in sorted(pooled, key=_by_number)}


def measure_blocks(
    outputs: Callable[[Params], Any], params: Params, distance: Distance, *, blocks: str = BLOCKS
) -> dict[str, float]:
    """Score each block by how far the outputs move without it: the criteria of trained networks.

    The authors take 1 − CKA of the features before the classifier, `lambda a, b: 1 - diagnostics.linear_cka(a, b)`, or
    the KL divergence of the predictions, `lambda a, b: optax.losses.kl_divergence(log_softmax(a), softmax(b)).mean()`.
    They zero the last norm of a block, which leaves x as well.

    Args:
      outputs: parameters -> outputs for some examples.
      params: the parameters.
      distance: (outputs, outputs without a block) -> scalar, 0 where they are alike.
      blocks: as in `score_blocks`.

    Returns:
      As `score_blocks`.

    Raises:
      NoMatchError: no leaf lies in a block.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"block1": jnp.float32(0), "block2": jnp.float32(3)}
      >>> measure_blocks(lambda p: 1 + p["block1"] + p["block2"], params, lambda a, b: abs(a - b))
      {'block1': 0.0, 'block2': 3.0}
    """
    names = score_blocks(params, blocks=blocks)
    run, apart = jax.jit(outputs), jax.jit(distance)
    whole = run(params)
    return {name: float(apart(whole, run(apply_mask(params, block_mask(params, [name]))))) for name in names}


def select_blocks(scores: Mapping[str, float], count: int, *, minimum: int = 2) -> tuple[str, ...]:
    """Return the blocks to remove: the `count` least important of all stages together.

    The first block of each stage stays, since the stream changes its shape there. A stage keeps `minimum` blocks: where
    the least important would leave fewer, the next one goes (the authors' later code, DeepPruning). Of equal scores the
    earlier block goes.

    Args:
      scores: path of a block -> score, higher = more worth keeping, in the order of the network. Blocks of one parent
        are a stage.
      count: p, the number of blocks to remove.
      minimum: the blocks that each stage keeps, at least 1.

    Returns:
      The paths of the blocks, in the order in which they go.

    Raises:
      InputError: a count below 0, a minimum below 1, scores that are not finite, or a count that the stages cannot
        lose; the message says how many they can.

    Examples:
      >>> select_blocks({"stage1/block1": 0.0, "stage1/block2": 3.0, "stage1/block3": 1.0, "stage1/block4": 2.0}, 1)
      ('stage1/block3',)
    """
    check_count(0, count=count)
    check_count(1, minimum=minimum)
    if not np.isfinite(list(scores.values())).all():
        raise InputError(f"scores must be finite, but are {dict(scores)}")
    left: dict[str, int] = {}
    candidates = []
    for block in scores:
        stage = _stage(block)
        if stage in left:
            candidates.append(block)
        left[stage] = left.get(stage, 0) + 1
    most = sum(max(0, number - minimum) for number in left.values())
    if count > most:
        raise InputError(f"count={count} must be at most {most}: each stage keeps {minimum} of its blocks")
    gone: list[str] = []
    for block in sorted(candidates, key=scores.__getitem__):
        if len(gone) < count and left[_stage(block)] > minimum:
            gone.append(block)
            left[_stage(block)] -= 1
    return tuple(gone)


def remove_blocks(tree: PyTree, gone: tuple[str, ...]) -> PyTree:
    """Return a tree without some blocks: a shallower network, whose other blocks keep their names and arrays.

    Args:
      tree: nested dicts of parameters, or of their batch statistics.
      gone: paths of blocks, as `select_blocks` returns them.

    Returns:
      Nested dicts.

    Raises:
      InputError: a path that is not a subtree of nested dicts.

    Examples:
      >>> remove_blocks({"stage1": {"block1": 1, "block2": 2}, "output": 3}, ("stage1/block2",))
      {'stage1': {'block1': 1}, 'output': 3}
    """
    for path in gone:
        tree = _without(tree, path.split("/"), path)
    return tree


def block_mask(params: Params, gone: tuple[str, ...] | list[str]) -> Mask:
    """Return the mask that drops blocks whole: the dense form of `remove_blocks`, which saves nothing.

    Args:
      params: the parameters.
      gone: paths of blocks.

    Returns:
      A mask whose leaves have size 1 on every axis in the blocks that go, and are None elsewhere.

    Raises:
      NoMatchError: a path in which no leaf lies.

    Examples:
      >>> import jax.numpy as jnp
      >>> block_mask({"block1": {"kernel": jnp.ones((2, 2))}, "output": jnp.ones(2)}, ["block1"])
      {'block1': {'kernel': Array([[False]], dtype=bool)}, 'output': None}
    """
    names = _tree.present_names(params)
    for block in gone:
        if not any(name == block or name.startswith(f"{block}/") for name in names):
            raise NoMatchError(f"gone: {block!r} is not the path of a block; leaves are {_some(params)}")
    within = lambda name: any(name == block or name.startswith(f"{block}/") for block in gone)
    return _tree.tree_map(
        lambda p, name: jnp.zeros((1,) * jnp.ndim(p), bool) if p is not None and within(name) else None,
        params,
        _tree.names(params),
    )


def _block_of(name: str, pattern: re.Pattern[str]) -> str | None:
    """Return the longest beginning of a path, up to a name, that is the path of a block."""
    parts = name.split("/")
    beginnings = ("/".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((beginning for beginning in beginnings if pattern.fullmatch(beginning)), None)


def _stage(block: str) -> str:
    return block.rpartition("/")[0]


def _by_number(block: str) -> tuple[Any, ...]:
    """Sort block10 behind block2: jax sorts names as strings."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", block))


def _without(tree: PyTree, parts: list[str], path: str) -> PyTree:
    name, *rest = parts
    if not isinstance(tree, dict) or name not in tree:
        raise InputError(f"gone: {path!r} is not the path of a subtree of nested dicts")
    if rest:
        return {key: _without(item, rest, path) if key == name else item for key, item in tree.items()}
    return {key: item for key, item in tree.items() if key != name}


def _some(tree: PyTree) -> str:
    return ", ".join(_tree.present_names(tree)[:3])
