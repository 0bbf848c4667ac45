"""The state of `sparsify`, and the form in which saved directories hold it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket.transforms._unit_mask import UnitMask
from jaxticket.typing import Key, Mask, PyTree

_WORDS = {2: "threefry2x32", 4: "rbg"}  # of a key; unsafe_rbg has as many as rbg


class SparseState(NamedTuple):
    """The state of `sparsify`: arrays of numbers. Beyond the inner optimizer's state it holds one byte a weight.

    Where the units of the plan span leaves, as the channels of traced groups do, it is one byte a unit.
    """

    steps: jax.Array  # so far, int32 scalar; the inner optimizer's counts are called `count`
    mask: Mask | UnitMask  # structure of the parameters, or a mask of the plan's units; see `mask_of`
    refresh: PyTree  # state of the plan's mask transform
    inner: PyTree  # state of the inner optimizer
    key: jax.Array | None  # (words,) uint32, the data of the PRNG key


class Stored(NamedTuple):
    """A `SparseState` in a saved directory and in fingerprints: the names of the first format, and a typed key."""

    count: jax.Array  # type: ignore[assignment]
    mask: Mask
    refresh: PyTree
    inner: PyTree
    key: Key | None


def wrap_key(data: jax.Array, impl: Any = None) -> Key:
    """Return the typed key of these words, or the key itself if it is typed already.

    Without `impl` it is jax's default, or the usual implementation of so many words.
    """
    if _is_key(data):
        return data
    if impl is None:
        default = jax.random.key(0)
        fits = jax.random.key_data(default).shape[-1] == data.shape[-1]
        impl = jax.random.key_impl(default) if fits else _WORDS[data.shape[-1]]
    return jax.random.wrap_key_data(jnp.asarray(data), impl=impl)


def is_sparse_state(x: Any) -> bool:
    """Whether it is the state of `sparsify`."""
    return isinstance(x, SparseState)


def to_stored(tree: PyTree) -> PyTree:
    """Return the tree with the stored form of each `SparseState`, of arrays, of their shapes or of shardings."""

    def convert(x: Any) -> Any:
        if not is_sparse_state(x):
            return x
        return Stored(x.steps, x.mask, x.refresh, to_stored(x.inner), _typed(x.key))

    return jax.tree.map(convert, tree, is_leaf=lambda x: x is None or is_sparse_state(x))


def from_stored(tree: PyTree) -> PyTree:
    """Return the tree with a `SparseState` for each stored form of it."""

    def convert(x: Any) -> Any:
        if not isinstance(x, Stored):
            return x
        key = jax.random.key_data(x.key) if x.key is not None and _is_key(x.key) else x.key
        return SparseState(x.count, x.mask, x.refresh, from_stored(x.inner), key)

    return jax.tree.map(convert, tree, is_leaf=lambda x: x is None or isinstance(x, Stored))


def _typed(key: Any) -> Any:
    known = bool(getattr(key, "shape", ())) and key.shape[-1] in _WORDS and not _is_key(key)
    if not known:  # None, a sharding, or a key of an implementation of the user's own
        return key
    return jax.eval_shape(wrap_key, key) if isinstance(key, jax.ShapeDtypeStruct) else wrap_key(key)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
