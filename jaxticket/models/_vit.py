"""Vision transformers."""

import functools

import jax
import jax.numpy as jnp

from jaxticket._checks import check_images, check_sizes
from jaxticket.errors import InputError
from jaxticket.models import _layers, _transformer
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model, of_stages
from jaxticket.typing import Key, Params, PyTree, Stages

_DEPTH, _HEAD = 12, 64  # blocks, and channels of a head, at every size
_DESIGN = _transformer.Design(
    scale=_HEAD**-0.5, epsilon=1e-6, causal=False, activation=functools.partial(jax.nn.gelu, approximate=False)
)


def vit_tiny(*, classes: int = 1000, image_size: int = 224, patch: int = 16, channels: int = 3) -> Model:
    """Build ViT-Ti/`patch`: 12 pre-norm blocks of width 192 with 3 heads, on square images.

    It follows Dosovitskiy et al., "An Image Is Worth 16 × 16 Words" (2021), at the size of DeiT-Ti (Touvron et al.,
    2021) and initialised as there. Kernels, class token and positions are normal with deviation 0.02, the patch
    convolution is uniform by fan-in, biases are zero. Dropout and stochastic depth are left out. Heads, their
    channels, hidden units and blocks are read from the parameters. It has 5,717,416 parameters with the defaults.

    Args:
      classes: the number of logits.
      image_size: the height and width of an image in pixels.
      patch: the height and width of a patch in pixels.
      channels: the number of channels of an image.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or a patch that does not divide the image.

    Examples:
      >>> import jax
      >>> params, state = jax.eval_shape(vit_tiny(classes=10, image_size=32, patch=4).init, jax.random.key(0))
      >>> params["position"]["embedding"].shape, params["blocks"]["block1"]["attention"]["query"]["kernel"].shape
      ((65, 192), (192, 3, 64))
    """
    return _vit(3, classes, image_size, patch, channels)


def vit_small(*, classes: int = 1000, image_size: int = 224, patch: int = 16, channels: int = 3) -> Model:
    """Build ViT-S/`patch`: `vit_tiny` of width 384 with 6 heads, the size of DeiT-S. 22,050,664 parameters.

    Args:
      classes: the number of logits.
      image_size: the height and width of an image in pixels.
      patch: the height and width of a patch in pixels.
      channels: the number of channels of an image.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or a patch that does not divide the image.
    """
    return _vit(6, classes, image_size, patch, channels)


def _vit(heads: int, classes: int, image_size: int, patch: int, channels: int) -> Model:
    check_sizes(classes=classes, image_size=image_size, patch=patch, channels=channels)
    if image_size % patch:
        raise InputError(f"image_size={image_size} must be a multiple of patch={patch}")

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, normal = _layers.keys(key), nnx.initializers.normal(0.02)
        by_fan_in = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        patches = (image_size // patch) ** 2
        new_block = functools.partial(_transformer.new_block, kernel_init=normal, residual_init=normal)
        width = heads * _HEAD
        layers = {
            "patch": _layers.new_conv(patch, channels, width, by_fan_in, rngs),
            "token": nnx.Embed(1, width, embedding_init=normal, rngs=rngs),
            "position": nnx.Embed(patches + 1, width, embedding_init=normal, rngs=rngs),
            "blocks": {f"block{index}": new_block(width, heads, 4 * width, rngs) for index in range(1, _DEPTH + 1)},
            "norm": _transformer.new_norm(width, rngs),
            "output": _layers.new_dense(width, classes, normal, rngs),
        }
        return _layers.pure(layers)

    def embed(params: Params, x: jax.Array) -> jax.Array:
        check_images(x, params["patch"]["kernel"])
        if x.shape[1:3] != (image_size, image_size):
            raise InputError(f"x has shape {x.shape}; this model reads {image_size} × {image_size} pixels (image_size)")
        size, _, inputs, width = params["patch"]["kernel"].shape
        options = {"strides": size, "padding": "VALID"}
        x = _layers.bind(params["patch"], nnx.Conv, inputs, width, (size, size), **options)(x)
        x = x.reshape(x.shape[0], -1, width)
        token = jnp.broadcast_to(params["token"]["embedding"], (x.shape[0], 1, width))
        return jnp.concatenate([token, x], axis=1) + params["position"]["embedding"][None]

    return of_stages(init, Stages(embed, _block, _head, _look))


def _block(params: Params, x: jax.Array) -> jax.Array:
    return _transformer.block(params, x, _DESIGN)


def _head(params: Params, x: jax.Array) -> jax.Array:
    return _layers.dense(params["output"], _transformer.layer_norm(params["norm"], x[:, 0], epsilon=_DESIGN.epsilon))


def _look(params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = _transformer.layer_norm(params["norm1"], x, epsilon=_DESIGN.epsilon)
    return _transformer.look(params["attention"], x, _DESIGN)
