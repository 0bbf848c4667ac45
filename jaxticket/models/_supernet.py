"""A supernet for small images: inverted residuals whose hidden channels are filtered at several sizes in parallel."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._checks import check_sizes
from jaxticket.errors import InputError
from jaxticket.models import _layers
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree


def supernet(
    *,
    blocks: int = 3,
    width: int = 16,
    hidden: int | Sequence[Sequence[int]] = 16,
    sizes: tuple[int, ...] = (1, 3, 5),
    patch: int = 4,
    classes: int = 10,
    shape: tuple[int, int, int] = (28, 28, 1),
) -> Model:
    """Build a supernet: x + norm(Σ branches) `blocks` times, between an embedding of patches and a linear classifier.

    A branch expands the channels (1 × 1), filters each (depthwise, in its own size) and projects them back (1 × 1). A
    batch norm and ReLU follow the first two, and one norm the sum. Blocks are those of the supernets of SuperTickets,
    without their parallel resolutions and attention. Kernels are Kaiming-normal, scales one. Images may be flat. Blocks
    and branches are read from the parameters.

    Args:
      blocks: the number of blocks.
      width: the number of channels of the stream.
      hidden: the number of channels of each branch; or for each block, for each size, that of its branch.
      sizes: the odd sizes of the depthwise kernels, one a branch.
      patch: the size of the patches, which the embedding reads without overlap.
      classes: the number of logits.
      shape: the shape of an image: (height, width, channels).

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, kernels of even or equal sizes, another number of branches, or a patch that does not
        divide the image.

    References:
      You et al. (2022), SuperTickets.

    Examples:
      >>> import jax
      >>> params, state = jax.eval_shape(supernet().init, jax.random.key(0))
      >>> params["blocks"]["block1"]["kernel3"]["depthwise"]["conv"]["kernel"].shape
      (3, 3, 1, 16)
    """
    check_sizes(blocks=blocks, width=width, patch=patch, classes=classes)
    if not sizes or len(set(sizes)) != len(sizes) or any(size < 1 or size % 2 == 0 for size in sizes):
        raise InputError(f"sizes={sizes} must be different odd numbers, such as (1, 3, 5)")
    widths = [[hidden] * len(sizes)] * blocks if isinstance(hidden, int) else hidden
    if [len(block) for block in widths] != [len(sizes)] * blocks:
        raise InputError(f"hidden={hidden} must be a width, or {blocks} × {len(sizes)} of them: blocks × sizes")
    check_sizes(hidden=min(min(block) for block in widths))
    if len(shape) != 3 or min(shape) < 1 or shape[0] % patch or shape[1] % patch:
        raise InputError(f"shape={shape} must be (height, width, channels), the first two multiples of patch={patch}")

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs = _layers.keys(key)
        layers: _layers.Layers = {"stem": _new_conv_norm(patch, shape[2], width, rngs), "blocks": {}}
        for number, block in enumerate(widths, start=1):
            branches = {f"kernel{k}": _new_branch(k, width, n, rngs) for k, n in zip(sizes, block, strict=True)}
            layers["blocks"][f"block{number}"] = {**branches, "norm": _new_norm(width, rngs)}
        return _layers.pure({**layers, "output": _layers.new_dense(width, classes, _layers.kaiming_normal, rngs)})

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        del key  # no dropout
        if math.prod(x.shape[1:]) != math.prod(shape):
            raise InputError(f"images of shape {x.shape[1:]} do not hold the values of shape={shape}")
        new: dict[str, PyTree] = {"blocks": {}}
        x = _layers.conv(params["stem"]["conv"], x.reshape(len(x), *shape), strides=patch, padding="VALID")
        x, norm = _layers.batch_norm(params["stem"]["norm"], state["stem"]["norm"], x, train=train)
        x, new["stem"] = jax.nn.relu(x), {"norm": norm}
        for name in _tree.in_order(params["blocks"]):
            y, new["blocks"][name] = _block(params["blocks"][name], state["blocks"][name], x, train=train)
            x = x + y
        return _layers.dense(params["output"], jnp.mean(x, axis=(1, 2))), new

    return Model(init, apply)


def _new_norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return _layers.new_norm(features, nnx.initializers.ones, rngs)


def _new_conv_norm(size: int, inputs: int, outputs: int, rngs: nnx.Rngs, *, groups: int = 1) -> _layers.Layers:
    """Make a convolution without bias and its batch norm, of scale 1."""
    options = {"use_bias": False, "feature_group_count": groups}
    conv = _layers.new_conv(size, inputs, outputs, _layers.kaiming_normal, rngs, **options)
    return {"conv": conv, "norm": _new_norm(outputs, rngs)}


def _new_branch(size: int, width: int, hidden: int, rngs: nnx.Rngs) -> _layers.Layers:
    return {
        "expand": _new_conv_norm(1, width, hidden, rngs),
        "depthwise": _new_conv_norm(size, hidden, hidden, rngs, groups=hidden),
        "project": _layers.new_conv(1, hidden, width, _layers.kaiming_normal, rngs, use_bias=False),
    }


def _block(params: Params, state: PyTree, x: jax.Array, *, train: bool) -> tuple[jax.Array, PyTree]:
    """Return the normalised sum of the branches, and the new statistics."""
    new: dict[str, PyTree] = {}
    total = jnp.zeros((), x.dtype)
    for name in params:
        if name != "norm":
            branch, new[name] = params[name], {}
            y = x
            for layer in ("expand", "depthwise"):
                groups = y.shape[-1] if layer == "depthwise" else 1
                y = _layers.conv(branch[layer]["conv"], y, groups=groups)
                y, norm = _layers.batch_norm(branch[layer]["norm"], state[name][layer]["norm"], y, train=train)
                y, new[name][layer] = jax.nn.relu(y), {"norm": norm}
            total = total + _layers.conv(branch["project"], y)
    total, new["norm"] = _layers.batch_norm(params["norm"], state["norm"], total, train=train)
    return total, new
