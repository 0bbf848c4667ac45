"""Wrappers that make the scores of different leaves comparable, for `scopes.tree()`: ScoreFn -> ScoreFn."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _stacked, _tree
from jaxticket._check_trees import check_structure
from jaxticket.errors import InputError
from jaxticket.masks._apply import in_shapes_of
from jaxticket.typing import Mask, Params, ScoreFn, Scores, Stacked


def lamp(score: ScoreFn, *, stacked: Stacked | None = None) -> ScoreFn:
    """Score weights by s² over the sum of s² of all weights of the leaf that rank no lower (Lee et al., 2021).

    Global pruning by this score protects every leaf: the highest score of each is exactly 1, and scaling a leaf changes
    nothing. Within a leaf the order is that of |s|; of equal scores the lower flat index has the higher result. Weights
    that are dead (mask False, score 0 or NaN) get 0. The result is float32, and None where the mask is None. It sorts
    each leaf: meant for leaves that fit on one device.

    Args:
      score: the ScoreFn to normalise.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      A ScoreFn.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import scores
      >>> scored = lamp(scores.magnitude)({"w": jnp.array([1.0, 2.0, 3.0])})
      >>> [round(float(s), 4) for s in scored["w"]]  # 1/14, 4/13, 1
      [0.0714, 0.3077, 1.0]
    """
    return _by_leaf(score, _lamp, stacked)


def module(
    score: ScoreFn,
    module_of: Callable[[str], Hashable] | Mapping[str, Hashable],
    *,
    stacked: Stacked | None = None,
) -> ScoreFn:
    """Score weights by s² over the sum of s² of all weights of the module that rank no lower (He & Zhou, 2024, DIMAP).

    This is LAMP with modules (the attention of a block, its MLP) in place of leaves. Within a module the order is that
    of |s|, so its layers compete by magnitude. The highest score of each module is exactly 1. It concatenates and sorts
    the leaves of each module: meant for modules that fit on one device. Otherwise it works as `lamp` does.

    Args:
      score: the ScoreFn to normalise.
      module_of: path name ('block0/mlp/kernel') -> module, any hashable; or rules, regex -> module, of which the first
        that matches in the path decides. A leaf that no rule decides is a module by itself.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; the layers of a module
        are modules of their own.

    Returns:
      A ScoreFn.

    Raises:
      InputError: a regex that cannot be read, or a module whose leaves stack different numbers of layers, when the
        score is called.
      NoMatchError: a regex that decides no scored leaf, when the score is called.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import scores
      >>> params = {"mlp/in": jnp.array([3.0]), "mlp/out": jnp.array([2.0, 1.0])}
      >>> scored = module(scores.magnitude, {"mlp/": "mlp"})(params)
      >>> {name: [round(float(s), 4) for s in leaf] for name, leaf in scored.items()}  # 9/9; 4/13, 1/14
      {'mlp/in': [1.0], 'mlp/out': [0.3077, 0.0714]}
    """

    stack = _stacked.read(stacked)

    def normalised(params: Params, *, mask: Mask | None = None, **signals: Any) -> Scores:
        scores, alive = _score_and_alive(score, params, mask, signals)
        leaves, living, axes = _tree.leaves(scores), _tree.leaves(alive), stack.axes(scores)
        for members in _modules(module_of, scores):
            arrays, kept = ([column[i] for i in members] for column in (leaves, living))
            apart = [axes[i] for i in members]
            layers = {tuple(x.shape[a] for a in own) for x, own in zip(arrays, apart, strict=True)}
            if len(layers) > 1:
                raise InputError(
                    f"stacked: leaves of one module stack layers of shapes {layers}; module_of must part them."
                )
            for i, part in zip(members, _stacked.map_slices(_lamp_together, apart, 2)(arrays, kept), strict=True):
                leaves[i] = part
        return jax.tree.unflatten(_tree.structure(scores), leaves)

    return normalised


def layer_mean(score: ScoreFn, *, stacked: Stacked | None = None) -> ScoreFn:
    """Divide scores by the mean of |s| in their leaf: global pruning then compares weights with their layer's average.

    If a mask is given, only finite scores of weights that are alive are averaged. Every weight is scored (in float32,
    None where the mask is None). A leaf whose mean is zero gets zeros.

    Args:
      score: the ScoreFn to normalise.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      A ScoreFn.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import scores
      >>> layer_mean(scores.magnitude)({"w": jnp.array([1.0, 3.0])})
      {'w': Array([0.5, 1.5], dtype=float32)}
    """
    return _by_leaf(score, _layer_mean, stacked)


def unit_norm(score: ScoreFn, *, stacked: Stacked | None = None) -> ScoreFn:
    """Divide scores by the Euclidean norm of their leaf, as jaxpruner normalises before it prunes globally.

    If a mask is given, only finite scores of weights that are alive count in the norm. Every weight is scored (in
    float32, None where the mask is None). A leaf of norm zero gets zeros.

    Args:
      score: the ScoreFn to normalise.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      A ScoreFn.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import scores
      >>> unit_norm(scores.magnitude)({"w": jnp.array([-3.0, 4.0])})
      {'w': Array([0.6, 0.8], dtype=float32)}
    """
    return _by_leaf(score, _unit_norm, stacked)


def _by_leaf(
    score: ScoreFn, normalise: Callable[[jax.Array, jax.Array], jax.Array], stacked: Stacked | None
) -> ScoreFn:
    stack = _stacked.read(stacked)

    def normalised(params: Params, *, mask: Mask | None = None, **signals: Any) -> Scores:
        scores, alive = _score_and_alive(score, params, mask, signals)
        return stack.map(lambda s, a: _tree.map_present(normalise, s, a), scores, alive)

    return normalised


def _score_and_alive(score: ScoreFn, params: Params, mask: Mask | None, signals: dict[str, Any]) -> tuple[Scores, Mask]:
    """Return scores in float32 and a mask of their shapes, None in the same places."""
    scores = score(params, mask=mask, **signals)
    if mask is None:
        mask = _tree.map_present(lambda s: jnp.ones((1,) * s.ndim, bool), scores)
    mask = check_structure("mask", mask, "scores", scores)
    return (
        _tree.map_present(lambda s, m: s.astype(jnp.float32), scores, mask),
        in_shapes_of(mask, scores),
    )


def _modules(module_of: Callable[[str], Hashable] | Mapping[str, Hashable], scores: Scores) -> list[list[int]]:
    """Return the places in the tree of the leaves that make up each module."""
    pairs = enumerate(zip(_tree.leaves(_tree.names(scores)), _tree.leaves(scores), strict=True))
    names = {i: name for i, (name, s) in pairs if s is not None}
    if callable(module_of):
        chosen = {name: (module_of(name),) for name in names.values()}
    else:
        rules = {regex: (name,) for regex, name in module_of.items()}
        chosen = _tree.resolve(rules, {name: i for i, name in names.items()})
    members = defaultdict(list)
    for i, name in names.items():
        members[i if chosen[name] is None else chosen[name]].append(i)
    return list(members.values())


def _lamp(s: jax.Array, alive: jax.Array) -> jax.Array:
    # Divided by the largest first, so that squares of tiny gradients do not underflow.
    # Bounded (inf too), since XLA divides by multiplying with the reciprocal, which must not underflow either.
    size = jnp.where(alive & ~jnp.isnan(s), jnp.minimum(jnp.abs(s), 2.0**125), 0).ravel()
    size = _ratio(size, jnp.max(size, initial=0))
    order = jnp.argsort(size, descending=True, stable=True)
    square = jnp.square(size[order])
    # A parallel cumulative sum may decrease in the last bit; cummin keeps the order that exact sums would give.
    ranked = jax.lax.cummin(_ratio(square, jnp.cumsum(square)))
    return jnp.zeros_like(size).at[order].set(ranked, unique_indices=True).reshape(s.shape)


def _lamp_together(arrays: list[jax.Array], alive: list[jax.Array]) -> list[jax.Array]:
    """Return the scores of several leaves, which rank together."""
    together = _lamp(jnp.concatenate([x.ravel() for x in arrays]), jnp.concatenate([x.ravel() for x in alive]))
    parts = jnp.split(together, np.cumsum([x.size for x in arrays])[:-1])
    return [part.reshape(x.shape) for part, x in zip(parts, arrays, strict=True)]


def _layer_mean(s: jax.Array, alive: jax.Array) -> jax.Array:
    scaled, counted = _scale(s, alive)
    number = jnp.maximum(jnp.sum(counted, dtype=jnp.float32), 1)
    return _ratio(scaled, jnp.sum(jnp.abs(scaled), where=counted) / number)


def _unit_norm(s: jax.Array, alive: jax.Array) -> jax.Array:
    scaled, counted = _scale(s, alive)
    return _ratio(scaled, jnp.sqrt(jnp.sum(jnp.square(scaled), where=counted)))


def _scale(s: jax.Array, alive: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Divide `s` by its largest counted size, so that sums of squares stay in range; also mark the counted entries."""
    counted = alive & jnp.isfinite(s)
    return _ratio(s, jnp.max(jnp.abs(s), where=counted, initial=0)), counted


def _ratio(x: jax.Array, by: jax.Array) -> jax.Array:
    """Return x / by, and 0 where `by` is 0."""
    return jnp.where(by > 0, x / jnp.where(by > 0, by, 1), 0)
