"""Conditionals that stay conditionals under vmap."""

import jax
import jax.numpy as jnp


@jax.custom_batching.custom_vmap
def any_replicate(predicate: jax.Array) -> jax.Array:
    """Return the predicate itself; under vmap, also nested, whether it holds for any replicate (one unbatched scalar).

    `lax.cond` on a batched predicate becomes a select that always pays for both branches. On this predicate it stays a
    conditional, whose branch must then give each replicate its own answer.
    """
    return predicate


@any_replicate.def_vmap
def _any_replicate_vmap(axis_size: int, in_batched: list[bool], predicate: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size
    return any_replicate(jnp.any(predicate) if in_batched[0] else predicate), False
