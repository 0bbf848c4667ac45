"""Scores of single weights. Each is a ScoreFn that names the signals it needs and ignores the others."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxticket import _tree
from jaxticket._check_trees import check_arrays, check_mask, check_shapes
from jaxticket._checks import check_key
from jaxticket._dtypes import wide
from jaxticket.errors import InputError
from jaxticket.typing import Key, Mask, Params, PyTree, Scores

# The first moment's field in optax states: adam and its family (lion, nadam, muon, …), and sgd with momentum.
_MOMENT_FIELDS = ("mu", "trace")


def magnitude(params: Params, **_: Any) -> Scores:
    """Score weights by their magnitude |p| (Han et al., 2015).

    Scores have the shapes and dtypes of the parameters; None for leaves that are None or not float. Complex weights
    are ranked by their modulus, here and in the other scores of this module.

    Examples:
      >>> import jax.numpy as jnp
      >>> magnitude({"w": jnp.array([-2.0, 1.0]), "steps": jnp.array(3)})
      {'steps': None, 'w': Array([2., 1.], dtype=float32)}
    """
    return _tree.map_present(jnp.abs, _floats(params))


def random(params: Params, *, key: Key | None = None, **_: Any) -> Scores:
    """Score weights by uniform noise in [0, 1), float32: each unit is as likely to be kept as any other.

    It is the control of every method. The draws of the leaf at position i of the tree (None counts) depend on the key
    and i alone, whatever the other leaves are. Each entry is a hash of its position, seeded by the key. This is several
    times cheaper to compile and to run than a threefry stream a leaf, and each shard makes its own.

    Args:
      params: weights; only shapes and dtypes are used.
      key: a typed PRNG key.

    Returns:
      Scores in float32; None for leaves that are None or not float.

    Raises:
      InputError: no key.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> random({"w": jnp.ones((2, 3))}, key=jax.random.key(0))["w"].shape
      (2, 3)
    """
    if key is None:
        raise InputError("scores.random needs a key, got key=None; pass key= to sparsify (or to the score itself).")
    check_key("key", key)
    floats = _floats(params)
    seeds = jax.random.bits(key, (_tree.structure(floats).num_leaves, 2), jnp.uint32)
    return _tree.map_present(_noise, floats, jax.tree.unflatten(_tree.structure(floats), list(seeds)))


def unfired(params: Params, *, key: Key | None = None, explored: Mask | None = None, **_: Any) -> Scores:
    """Score weights by noise, those that were never alive above all others (Liu et al., 2021, ITOP: random_unfired).

    Args:
      params: weights; only shapes and dtypes are used.
      key: a typed PRNG key.
      explored: the mask of the weights that were ever alive, which `transforms.track_explored` gives to the scores of
        its transform.

    Returns:
      Scores in float32, in [1, 2) for weights that were never alive and in [0, 1) for others.

    Raises:
      InputError: no key, no `explored`, or one that is not bool.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> scored = unfired({"w": jnp.ones(2)}, key=jax.random.key(0), explored={"w": jnp.array([True, False])})
      >>> scored["w"] >= 1
      Array([False,  True], dtype=bool)
    """
    if explored is None:
        raise InputError(
            "scores.unfired needs the weights that were ever alive, got explored=None; wrap the transforms, from their "
            "start(...) on, in transforms.track_explored."
        )
    check_mask("explored", explored)
    noise = random(params, key=key)
    return _tree.tree_map(lambda n, e: n if n is None or e is None else n + ~e, noise, explored)


def gradient(params: Params, *, grads: Params | None = None, **_: Any) -> Scores:
    """Score weights by the size |g| of their gradient, whose growth would lower the loss fastest (Evci et al., 2020,
    RigL).

    Args:
      params: weights; only shapes and dtypes are used.
      grads: their gradients, of dead weights too.

    Returns:
      Scores in the dtypes of the gradients; None for leaves that are None or not float.

    Raises:
      InputError: no grads.
      StructureError: grads of another structure than the parameters.

    Examples:
      >>> import jax.numpy as jnp
      >>> gradient({"w": jnp.array([0.0, 1.0])}, grads={"w": jnp.array([-3.0, 1.0])})
      {'w': Array([3., 1.], dtype=float32)}
    """
    return _tree.map_present(lambda p, g: jnp.abs(g), _floats(params), _require(grads, params))


def saliency(params: Params, *, grads: Params | None = None, **_: Any) -> Scores:
    """Score weights by |p · g|, the first-order change of the loss when a weight is removed (Lee et al., 2019, SNIP).

    Args:
      params: the weights p.
      grads: their gradients g.

    Returns:
      Scores in float32 at least; None for leaves that are None or not float.

    Raises:
      InputError: no grads.
      StructureError: grads of another structure than the parameters.

    Examples:
      >>> import jax.numpy as jnp
      >>> saliency({"w": jnp.array([2.0, 1.0])}, grads={"w": jnp.array([-3.0, 1.0])})
      {'w': Array([6., 1.], dtype=float32)}
    """
    return _tree.map_present(lambda p, g: jnp.abs(_times(p, g)), _floats(params), _require(grads, params))


def movement(params: Params, *, grads: Params | None = None, **_: Any) -> Scores:
    """Score weights by −p · g, positive where a step of descent moves a weight away from zero (Sanh et al., 2020).

    This is the movement of one step; the paper accumulates it over steps.

    Args:
      params: the weights p.
      grads: their gradients g.

    Returns:
      Scores in float32 at least; None for leaves that are None or not float.

    Raises:
      InputError: no grads.
      StructureError: grads of another structure than the parameters.

    Examples:
      >>> import jax.numpy as jnp
      >>> movement({"w": jnp.array([2.0, 1.0])}, grads={"w": jnp.array([-3.0, 1.0])})
      {'w': Array([ 6., -1.], dtype=float32)}
    """
    # jax.grad of a complex weight is the conjugate of the ascent, so that the real part is the product of vectors.
    return _tree.map_present(lambda p, g: -jnp.real(_times(p, g)), _floats(params), _require(grads, params))


def momentum(params: Params, *, aux: PyTree | None = None, **_: Any) -> Scores:
    """Score weights by the size |m| of the optimizer's first moment (Dettmers & Zettlemoyer, 2019, SNFS).

    The first moment is a gradient averaged over steps.

    Args:
      params: weights; only shapes and dtypes are used.
      aux: the optimizer's state, with a field `mu` (adam and its family) or `trace` (sgd with momentum) anywhere in it.
        Under multi_transform each weight takes the moment of its own optimizer.

    Returns:
      Scores in the dtypes of the moments; None for leaves without a moment.

    Raises:
      InputError: no aux, or an aux without such a moment.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> params = {"w": jnp.array([0.0, 1.0])}
      >>> tx = optax.sgd(0.1, momentum=0.9)
      >>> _, state = tx.update({"w": jnp.array([-3.0, 1.0])}, tx.init(params), params)
      >>> momentum(params, aux=state)
      {'w': Array([3., 1.], dtype=float32)}
    """
    if aux is None:
        raise InputError(
            "scores.momentum reads the optimizer's state, got aux=None; use it at a refresh of sparsify, or pass "
            "aux=opt_state. A first mask has no moments to go by: start it with scores.random or scores.magnitude."
        )
    moments = [m for field in _MOMENT_FIELDS for _, m in optax.tree_utils.tree_get_all_with_path(aux, field)]
    # A moment of another structure (None for momentum=0, say) belongs to something else.
    moments = [m for m in map(_without_masked_nodes, moments) if _tree.structure(m) == _tree.structure(params)]
    if not moments:
        raise InputError(
            f"scores.momentum finds no first moment of the parameters (fields {_MOMENT_FIELDS}) in aux, a "
            f"{type(aux).__name__}; use an optimizer that has one, such as adam or sgd with momentum."
        )

    def first(p: jax.Array | None, *candidates: jax.Array | None) -> jax.Array | None:
        own = next((m for m in candidates if m is not None), None)
        return None if p is None or own is None else jnp.abs(own)

    return _tree.tree_map(first, _floats(params), *moments)


def _times(p: jax.Array, g: jax.Array) -> jax.Array:
    """Return p · g in float32 at least: the products of small half-precision numbers underflow in their own dtype."""
    p, g = wide(p), wide(g)
    dtype = jnp.promote_types(p.dtype, g.dtype)
    return p.astype(dtype) * g.astype(dtype)


def _floats(params: Params) -> Params:
    """Return `params` with None for leaves that are not float or complex, which cannot be ranked or sparsified."""
    check_arrays("params", params)
    return _tree.map_present(lambda p: p if jnp.issubdtype(jnp.result_type(p), jnp.inexact) else None, params)


def _require(grads: Params | None, params: Params) -> Params:
    if grads is None:
        raise InputError(
            "this score needs gradients, got grads=None; pass grads=, use it at a refresh of sparsify, or start the "
            "mask with scores.random or scores.magnitude."
        )
    return check_shapes("grads", grads, "params", params)


def _without_masked_nodes(tree: PyTree) -> PyTree:
    """Return `tree` with None for optax's MaskedNode, which stands for parameters of another optimizer."""
    return jax.tree.map(
        lambda x: None if isinstance(x, optax.MaskedNode) else x,
        tree,
        is_leaf=lambda x: x is None or isinstance(x, optax.MaskedNode),
    )


def _noise(like: jax.Array, seed: jax.Array) -> jax.Array:
    """Return uniform float32 in [0, 1) from a hash of each entry's flat index and a seed of two words."""
    return _hash(jnp.zeros_like(like, dtype=jnp.uint32), seed)  # which lies where these zeros do


@jax.jit
def _hash(zeros: jax.Array, seed: jax.Array) -> jax.Array:
    low = high = zeros
    stride = 1
    for axis in reversed(range(zeros.ndim)):
        index = jax.lax.broadcasted_iota(jnp.uint32, zeros.shape, axis)
        if stride * zeros.shape[axis] < 1 << 32:
            low, stride = low + index * np.uint32(stride), stride * zeros.shape[axis]
        else:  # beyond 2^32 entries the leading axes are a second word
            high = high * np.uint32(zeros.shape[axis]) + index
    bits = _mix(_mix(low ^ seed[0]) + seed[1] + high * np.uint32(0x9E3779B9))
    return (bits >> 8).astype(jnp.float32) * np.float32(2**-24)


def _mix(x: jax.Array) -> jax.Array:
    """Apply a bijection of 32-bit words with little bias (lowbias32; Wellons, 2018)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
