"""One-shot pruning of a transformer, block by block: each block sees what the pruned ones before it put out."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, scopes, scores, structure
from jaxticket._checks import check_count, check_fraction
from jaxticket._finite import check_finite
from jaxticket.errors import InputError
from jaxticket.masks import apply_mask
from jaxticket.scores._wanda import find_inputs, score_weight
from jaxticket.selection import select
from jaxticket.typing import Filter, Mask, Params, PyTree, Scores, Stages

__all__ = ["PruneBlock", "Pruned", "by_magnitude", "by_structure", "by_wanda", "prune_blocks"]

Apply = Callable[[Params, PyTree], PyTree]
PruneBlock = Callable[[Params, Apply, list[PyTree]], tuple[Params, Mask]]  # (parameters, block, its inputs)


class Pruned(NamedTuple):
    """A block that was pruned: its name, parameters and mask."""

    name: str
    params: Params
    mask: Mask


def prune_blocks(
    stages: Stages,
    outer: Params,
    blocks: Mapping[str, Params] | Iterable[tuple[str, Params]],
    batches: Iterable[Any],
    prune: PruneBlock,
    *,
    finished: Mapping[str, tuple[Params, Mask]] | None = None,
) -> Iterator[Pruned]:
    """Prune a transformer's blocks in their order, as soon as each is asked for.

    The inputs of a block are the outputs of the blocks before it, as they are after pruning; its own layers all see the
    dense block. So the authors' codes of Wanda and SparseGPT prune language models. In memory are a block and the
    inputs of one, for all batches. Blocks of equal shapes share their compiled programs. Arrays may lie on a mesh.

    Args:
      stages: the steps of the network, `model.stages`.
      outer: the parameters outside the blocks.
      blocks: `params["blocks"]`; or the name and parameters of each block from the first on, such as a generator that
        reads them.
      batches: what the network reads, such as tokens (batch, time) without padding, which would count as inputs.
      prune: `by_magnitude(…)`, `by_wanda(…)`, `by_structure(…)`, or
        `functools.partial(sparsegpt, density=…, sequential=False)`, or a function of yours: (parameters of a block,
        block, list of its inputs) -> (parameters, mask).
      finished: the parameters and masks of blocks that are pruned already, by their names; these only run.

    Yields:
      A Pruned for each block.

    Raises:
      InputError: batches that are empty; a method's own errors.

    References:
      Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2024, arXiv 2306.11695.
      Frantar and Alistarh, "SparseGPT: Massive Language Models Can be Accurately Pruned in One-Shot", 2023,
        arXiv 2301.00774.

    Examples:
      >>> stages = Stages(lambda outer, x: x, lambda p, x: jax.nn.relu(x @ p["kernel"]), lambda outer, x: x)
      >>> draw = lambda seed: {"kernel": jax.random.normal(jax.random.key(seed), (4, 4))}
      >>> blocks = {"block1": draw(1), "block2": draw(2)}
      >>> for name, params, mask in prune_blocks(stages, {}, blocks, [jnp.ones((2, 4))], by_wanda(0.5)):
      ...     print(name, mask["kernel"].sum(0))
      block1 [2 2 2 2]
      block2 [2 2 2 2]
    """
    embed, run = jax.jit(stages.embed), jax.jit(stages.block)
    streams = [embed(outer, jnp.asarray(batch)) for batch in batches]
    if not streams:
        raise InputError("batches is empty; pass at least one batch of tokens")
    done = {} if finished is None else finished
    if isinstance(blocks, Mapping):  # whose order is lost in compiled functions: block10 comes before block2
        blocks = [(name, blocks[name]) for name in _tree.in_order(blocks)]
    for name, params in blocks:
        pruned, mask = done[name] if name in done else prune(_on_device(params), stages.block, streams)
        pruned = _on_device(pruned)
        streams = [run(pruned, stream) for stream in streams]
        yield Pruned(name, pruned, mask)


def by_magnitude(density: float, *, group: int | None = None, where: Filter | PyTree = filters.weights()) -> PruneBlock:
    """Prune the smallest weights of each layer, or of each group of inputs; inputs are not looked at.

    Args:
      density: the part of the weights of a layer that stays.
      group: m of N:M sparsity, where density is N/M.
      where: the leaves that are pruned.

    Returns:
      A function for `prune_blocks`.

    Raises:
      InputError: a density or a group out of its range.

    Examples:
      >>> prune = by_magnitude(0.5)
      >>> prune({"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]])}, None, [])[0]["kernel"].tolist()
      [[0.0, -4.0], [3.0, 0.0]]
    """
    _check(density, group)
    scope = scopes.leaf() if group is None else scopes.groups(group)

    def prune(params: Params, apply: Apply, streams: list[PyTree]) -> tuple[Params, Mask]:
        del apply, streams
        return _masked(params, select(scores.magnitude(filters.only(params, where)), density, scope=scope))

    return prune


def by_wanda(density: float, *, group: int | None = None, where: Filter | PyTree = filters.weights()) -> PruneBlock:
    """Prune the weights of each output that have the least size times norm of their input, or of each group of inputs.

    Args:
      density: the part of the weights of an output that stays.
      group: m of N:M sparsity, where density is N/M.
      where: the leaves that are pruned.

    Returns:
      A function for `prune_blocks`. It raises InputError for leaves that are not multiplied with data.

    Raises:
      InputError: a density or a group out of its range.

    References:
      Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2024, arXiv 2306.11695.

    Examples:
      >>> block = lambda params, x: x @ params["kernel"]
      >>> params = {"kernel": jnp.array([[4.0, 2.0], [-1.0, 4.0], [2.0, -6.0], [0.5, 1.5]])}
      >>> by_wanda(0.5)(params, block, [jnp.array([[1.0, 0, 0, 6], [0, 3, 1, 8]])])[1]["kernel"].astype(int).T.tolist()
      [[1, 0, 0, 1], [0, 1, 0, 1]]
    """
    _check(density, group)
    scope = scopes.slices() if group is None else scopes.groups(group)

    def prune(params: Params, apply: Apply, streams: list[PyTree]) -> tuple[Params, Mask]:
        return _masked(params, select(_score_wanda(params, apply, streams, where), density, scope=scope))

    return prune


def by_structure(fraction: float, *, exclude: str = r"(query|key|value)/kernel:2$") -> PruneBlock:
    """Remove heads and hidden units, those whose weights have the least size times norm of their inputs in the mean.

    `structure.trace` finds what can only be removed together, such as a head of keys and values with its heads of
    queries. What is left is a smaller block, whose outputs are those of the block with zeros. Each kind of unit loses
    the same fraction in all blocks. Published criteria for structures of language models differ from this one.

    Args:
      fraction: the part of the heads and of the hidden units that stays.
      exclude: a regex of the names of groups that stay whole: by default channels within heads, since positions turn
        them in pairs.

    Returns:
      A function for `prune_blocks`, whose masks are None.

    Raises:
      InputError: a fraction outside [0, 1], or a regex that cannot be read.

    Examples:
      >>> block = lambda p, x: x + jax.nn.relu(x @ p["first"]["kernel"]) @ p["second"]["kernel"]
      >>> params = {"first": {"kernel": jnp.arange(24.0).reshape(4, 6)}, "second": {"kernel": jnp.ones((6, 4))}}
      >>> smaller, _ = by_structure(0.5)(params, block, [jnp.ones((2, 4))])
      >>> smaller["first"]["kernel"].shape, smaller["second"]["kernel"].shape
      ((4, 3), (3, 4))
    """
    check_fraction("fraction", fraction)
    stays = _tree.compile_regex("exclude", exclude)

    def prune(params: Params, apply: Apply, streams: list[PyTree]) -> tuple[Params, Mask]:
        groups = structure.trace(apply, params, streams[0])
        groups = groups.only([group.name for group in groups if not stays.search(group.name)])
        scored = structure.pool(_score_wanda(params, apply, streams, filters.weights()), groups)
        return structure.shrink(params, structure.choose(scored, groups, fraction), groups), None

    return prune


def _score_wanda(params: Params, apply: Apply, streams: list[PyTree], where: Filter | PyTree) -> Scores:
    """Return the sizes of weights times the norms of their inputs. Raises InputError for leaves without inputs."""
    chosen, names = filters.only(params, where), _tree.names(params)
    measure = functools.partial(_measure, apply, params)
    totals = functools.reduce(functools.partial(jax.tree.map, jnp.add), map(measure, streams))
    check_finite(totals, streams, measure)
    alone = _tree.tree_map(
        lambda p, name, total: None if p is None or total is not None else name, chosen, names, totals
    )
    if missing := jax.tree.leaves(alone):
        raise InputError(f"{missing} are never multiplied with data; leave them out with where=")
    return _tree.tree_map(lambda p, total: None if p is None else score_weight(p, total), chosen, totals)


@functools.partial(jax.jit, static_argnames="apply")
def _measure(apply: Apply, params: Params, stream: PyTree) -> PyTree:
    """Return the squares of the inputs of each leaf, compiled once for all blocks of equal shapes."""
    return find_inputs(apply, params, stream)


def _masked(params: Params, mask: Mask) -> tuple[Params, Mask]:
    return apply_mask(params, mask), mask


def _on_device(params: Params) -> Params:
    return jax.tree.map(jnp.asarray, params)


def _check(density: float, group: int | None) -> None:
    check_fraction("density", density)
    if group is not None:
        check_count(1, group=group)
