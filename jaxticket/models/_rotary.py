"""Rotary positions."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket.errors import InputError


class Rotary(NamedTuple):
    """The frequencies of rotary positions (Su et al., 2021): base^(−2i/depth) for the i-th pair of a head's channels.

    Attributes:
      base: the base.
      factor: the number by which frequencies are divided, for longer contexts.
      context: the context of the first training, as Llama 3 has it; None divides all frequencies. Else those with
        at least `fast` turns in this context stay, those with fewer than `slow` are divided, and the ones between are
        interpolated.
      slow: turns in the context.
      fast: turns in the context, more than `slow`.

    Examples:
      >>> Rotary().frequencies(4).tolist(), Rotary(factor=2.0).frequencies(4).tolist()
      ([1.0, 0.009999999776482582], [0.5, 0.004999999888241291])
    """

    base: float = 10_000.0
    factor: float = 1.0
    context: int | None = None
    slow: float = 1.0
    fast: float = 4.0

    def frequencies(self, depth: int) -> np.ndarray:
        """Return the angles by which a position turns each pair of channels: float32 (depth / 2,).

        Raises InputError for a base or a factor that is not positive, and for `fast` not above `slow`.
        """
        if not (self.base > 0 and self.factor > 0 and self.slow < self.fast):
            raise InputError(f"rotary={self} must have a positive base and factor, and fast above slow")
        plain = self.base ** -(np.arange(0, depth, 2) / depth)
        kept = np.zeros_like(plain)
        if self.context is not None:
            turns = self.context * plain / (2 * math.pi)
            kept = np.clip((turns - self.slow) / (self.fast - self.slow), 0, 1)
        return (kept * plain + (1 - kept) * plain / self.factor).astype(np.float32)


def rotate(x: jax.Array, frequencies: np.ndarray) -> jax.Array:
    """Turn channels i and depth/2 + i of each head by the angle of its position: (batch, time, heads, depth)."""
    angles = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None] * frequencies[None]
    cos, sin = (f(angles)[None, :, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
