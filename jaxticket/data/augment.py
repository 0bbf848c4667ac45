"""Augmentation on the device: pure functions of a key and a batch, to be called inside a compiled loss."""

import jax
import jax.numpy as jnp

from jaxticket.errors import InputError
from jaxticket.typing import Key

__all__ = ["crop_and_flip"]


def crop_and_flip(images: jax.Array, *, key: Key, pad: int = 4) -> jax.Array:
    """Return a random window of each zero-padded image, mirrored left to right with probability one half.

    Each image is padded by `pad` zeros on every side. It is cropped to its size again, at one of (2·pad + 1)² equally
    likely offsets drawn for it alone. Zeros are meant to be the mean colour. So call it after normalisation, as He et
    al., "Deep Residual Learning" (2016), do, whose scheme for CIFAR this is. (torchvision's scripts pad black pixels
    before it.)

    Args:
      images: (batch, height, width, channels).
      key: draws the windows and the mirroring.
      pad: the number of zeros on every side.

    Returns:
      Images of the same shape.

    Raises:
      InputError: other than four dimensions, or a negative pad.

    Examples:
      >>> import jax
      >>> crop_and_flip(jax.numpy.ones((8, 32, 32, 3)), key=jax.random.key(0)).shape
      (8, 32, 32, 3)
    """
    if images.ndim != 4:
        raise InputError(f"images of shape {images.shape} must be (batch, height, width, channels); reshape them")
    if pad < 0:
        raise InputError(f"pad={pad} must not be negative")
    batch, *window = images.shape
    offset_key, flip_key = jax.random.split(key)
    offsets = jax.random.randint(offset_key, (batch, 2), 0, 2 * pad + 1)
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    cropped = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (*at, 0), window))(padded, offsets)
    mirrored = jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1))
    return jnp.where(mirrored, cropped[:, :, ::-1], cropped)
