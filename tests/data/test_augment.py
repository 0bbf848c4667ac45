"""Random crops and mirrors: what windows they are, and how often each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket.data.augment import crop_and_flip
from jaxticket.errors import InputError

augment = jax.jit(crop_and_flip, static_argnames="pad")


@functools.cache
def augmented(seed):
    """Many copies of one 5 × 5 image whose pixels are numbered 1 … 25, each augmented with a pad of 2."""
    image = jnp.arange(1.0, 26.0).reshape(1, 5, 5, 1)
    return np.asarray(augment(jnp.tile(image, (20_000, 1, 1, 1)), key=jax.random.key(seed), pad=2))[..., 0]


def windows():
    """All 25 windows of the padded image, and all 25 mirrored."""
    padded = np.pad(np.arange(1.0, 26.0).reshape(5, 5), 2)
    crops = [padded[top : top + 5, left : left + 5] for top in range(5) for left in range(5)]
    return np.stack(crops + [crop[:, ::-1] for crop in crops])


def test_every_result_is_a_window_or_its_mirror_all_equally_likely():
    kinds = {window.tobytes(): index for index, window in enumerate(windows().astype(np.float32))}
    assert len(kinds) == 50
    counts = np.bincount([kinds[image.tobytes()] for image in augmented(0)], minlength=50)
    chi_square = np.sum((counts - 400) ** 2 / 400)
    assert chi_square < 94.6  # exceeded once in 10,000 by 50 equally likely kinds (49 degrees of freedom)


def test_the_key_decides():
    np.testing.assert_array_equal(augmented(0), augmented.__wrapped__(0))
    assert not np.array_equal(augmented(0), augmented(1))


def test_images_are_drawn_for_one_by_one():
    results = augmented(0)
    assert not np.all(results[0] == results[:50])
    neighbours = np.mean(np.all(results[1:] == results[:-1], axis=(1, 2)))
    assert abs(neighbours - 1 / 50) < 0.005  # as often alike as by chance


def test_without_padding_only_mirrors_are_left():
    images = jax.random.normal(jax.random.key(1), (64, 4, 4, 3))
    results = np.asarray(augment(images, key=jax.random.key(0), pad=0))
    mirrored = np.all(results == images[:, :, ::-1], axis=(1, 2, 3))
    kept = np.all(results == images, axis=(1, 2, 3))
    assert np.all(kept ^ mirrored)
    assert 16 < mirrored.sum() < 48


def test_shapes_and_types_stay():
    images = jax.ShapeDtypeStruct((2, 4, 6, 3), jnp.bfloat16)
    result = jax.eval_shape(lambda x: crop_and_flip(x, key=jax.random.key(0)), images)
    assert (result.shape, result.dtype) == (images.shape, images.dtype)


def test_bad_arguments():
    with pytest.raises(InputError, match=r"\(3, 784\) must be \(batch, height, width, channels\)"):
        crop_and_flip(jnp.ones((3, 784)), key=jax.random.key(0))
    with pytest.raises(InputError, match="pad=-1"):
        crop_and_flip(jnp.ones((3, 4, 4, 1)), key=jax.random.key(0), pad=-1)
