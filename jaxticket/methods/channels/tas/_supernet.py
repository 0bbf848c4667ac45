"""A network that holds all widths and depths at once, and the residual one of the paper."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket._checks import check_count
from jaxticket.errors import InputError
from jaxticket.methods.channels.tas._choices import depth_choices, resizes, width_choices
from jaxticket.methods.channels.tas._sample import Draw
from jaxticket.typing import Key, Params

_EPSILON = 1e-5  # of batch norms
Numbers = Sequence[Any] | jax.Array


class Supernet(NamedTuple):
    """A network whose convolutions have all their widths, and whose stages have all their depths.

    Attributes:
      widths: the widths of each convolution.
      depths: the depths of each stage, in blocks.
      init: key -> weights.
      apply: (weights, x, draw) -> logits, of the network that a `Draw` mixes; shapes do not depend on the draw.
      cost: (width of each convolution, blocks of each stage) -> the multiply-adds of that network for an example.
      expected: (expected width of each convolution, for each stage the chance of each block) -> the expected ones.
    """

    widths: tuple[tuple[int, ...], ...]
    depths: tuple[tuple[int, ...], ...]
    init: Callable[[Key], Params]
    apply: Callable[[Params, jax.Array, Draw], jax.Array]
    cost: Callable[[Numbers, Numbers], Any]
    expected: Callable[[Numbers, Sequence[Numbers]], Any]


class _Sizes(NamedTuple):
    """The sizes of a residual network."""

    widths: tuple[int, ...]  # of each stage
    blocks: int  # of each stage
    shape: tuple[int, int, int]  # of an image
    classes: int


def residual_supernet(
    *, width: int = 16, blocks: int = 3, shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10
) -> Supernet:
    """Build the supernet of a residual network for small images: three stages, of `width`, 2 and 4 · `width` channels.

    The whole network is `models.resnet_20` at 3 blocks a stage, and `models.slim_resnet` is what a search leaves. Rows
    of logits are the first convolution, and both of each block of each stage. A shortcut's convolution has the width of
    its block's second one. Every width has its own scale and shift of the batch norm, also of shortcuts; statistics are
    those of the batch, and none are kept, since what a search leaves trains from fresh weights. The sum of a block and
    a stream of another width adds onto the first channels of the wider. The depths of a stage are aligned to the widest
    of them. Shortcuts stride, where the authors average 2 × 2 pixels, so that images of any size fit.

    `cost` counts the network as it is searched: a stream is as wide as its widest block so far. The authors' rebuilt
    network has a further convolution where widths differ. `expected` is theirs: a block reads the expected width of the
    block before.

    Args:
      width: the number of channels of the first stage, at least 4.
      blocks: the number of blocks of each stage.
      shape: the shape of an image: (height, width, channels).
      classes: the number of logits.

    Returns:
      The supernet.

    Raises:
      InputError: sizes out of range.

    Examples:
      >>> net = residual_supernet(width=8, blocks=2, shape=(8, 8, 1))
      >>> len(net.widths), net.widths[0], net.depths[0]
      (13, (2, 3, 4, 5, 6, 7, 8), (1, 2))
      >>> net.cost([8] * 5 + [16] * 4 + [32] * 4, [2, 2, 2])
      414528
    """
    if len(shape) != 3:
        raise InputError(f"shape={shape} must be (height, width, channels) of an image")
    check_count(1, blocks=blocks, height=shape[0], columns=shape[1], channels=shape[2], classes=classes)
    sizes = _Sizes((width, 2 * width, 4 * width), blocks, shape, classes)
    rows = [width_choices(width), *(width_choices(w) for w in sizes.widths for _ in range(2 * blocks))]
    whole, depths = [blocks] * len(sizes.widths), depth_choices(blocks)

    def cost(widths: Numbers, depths: Numbers) -> Any:
        alive = [[depth >= number for number in range(1, blocks + 1)] for depth in depths]
        return _cost(sizes, widths, alive, depths, join=_larger)

    return Supernet(
        widths=tuple(rows),
        depths=(depths,) * len(sizes.widths),
        init=functools.partial(_init, sizes),
        apply=functools.partial(_apply, sizes),
        cost=cost,
        expected=lambda widths, alive: _cost(sizes, widths, alive, whole, join=lambda stream, outer: outer),
    )


def _larger(a: Any, b: Any) -> Any:
    return jnp.maximum(a, b) if isinstance(a, jax.Array) or isinstance(b, jax.Array) else max(a, b)


def _cost(
    sizes: _Sizes, widths: Numbers, alive: Sequence[Numbers], depths: Numbers, *, join: Callable[[Any, Any], Any]
) -> Any:
    """Return the multiply-adds of widths, of blocks that count as much as they are alive, and of what depths read.

    `join` makes the width of a stream of that before a block and of the block's own.
    """
    height, columns, channels = sizes.shape
    stream = widths[0]
    total = 9 * channels * height * columns * stream
    for stage, counts in enumerate(alive):
        pixels = -(-height // 2**stage) * -(-columns // 2**stage)
        after = []
        for number, count in enumerate(counts):
            inner, outer = widths[1 + 2 * (stage * sizes.blocks + number) :][:2]
            begins = stage > 0 and number == 0
            own = 9 * pixels * (stream * inner + inner * outer) + (pixels * stream * outer if begins else 0)
            stream = outer if begins else join(stream, outer)
            total += count * own
            after.append(stream)
        stream = sum((depths[stage] == number) * width for number, width in enumerate(after, start=1))
    return total + stream * sizes.classes


def _init(sizes: _Sizes, key: Key) -> Params:
    """Draw weights as the authors do: Kaiming-normal by the outputs, scales 1, a classifier of deviation 0.01."""
    keys = iter(jax.random.split(key, 2 + 3 * sizes.blocks * len(sizes.widths)))
    kaiming = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")

    def layer(size: int, inputs: int, outputs: int) -> Params:
        norms = (len(width_choices(outputs)), outputs)
        kernel = kaiming(next(keys), (size, size, inputs, outputs))
        return {"conv": {"kernel": kernel}, "norm": {"scale": jnp.ones(norms), "bias": jnp.zeros(norms)}}

    inputs = sizes.widths[0]
    weights: Params = {"stem": layer(3, sizes.shape[2], inputs)}
    for stage, width in enumerate(sizes.widths):
        own = weights[f"stage{stage + 1}"] = {}
        for number in range(1, sizes.blocks + 1):
            block = own[f"block{number}"] = {"layer1": layer(3, inputs, width), "layer2": layer(3, width, width)}
            if stage and number == 1:
                block["shortcut"] = layer(1, inputs, width)
            inputs = width
    kernel = 0.01 * jax.random.normal(next(keys), (inputs, sizes.classes))
    return {**weights, "output": {"kernel": kernel, "bias": jnp.zeros(sizes.classes)}}


def _apply(sizes: _Sizes, weights: Params, x: jax.Array, draw: Draw) -> jax.Array:
    """Return the logits of the network that a draw mixes."""
    row = iter(range(len(draw.pairs)))
    pick = lambda at: (draw.pairs[at], draw.weights[at])
    tables = [jnp.asarray(resizes(width_choices(width))) for width in sizes.widths]
    x, widest = jax.nn.relu(_mix(weights["stem"], x, *pick(next(row)), tables[0])), jnp.max(draw.pairs[0])
    for stage, table in enumerate(tables):
        after = []
        for number in range(1, sizes.blocks + 1):
            block, begins = weights[f"stage{stage + 1}"][f"block{number}"], stage > 0 and number == 1
            strides, first, second = 1 + begins, next(row), next(row)
            inner = jax.nn.relu(_mix(block["layer1"], x, *pick(first), table, strides))
            shortcut = _mix(block["shortcut"], x, *pick(second), table, strides) if begins else x
            x = jax.nn.relu(_mix(block["layer2"], inner, *pick(second), table) + shortcut)
            own = jnp.max(draw.pairs[second])
            widest = own if begins else jnp.maximum(widest, own)
            after.append((x, widest))
        depths = [after[depth - 1] for depth in depth_choices(sizes.blocks)]
        aligned = [own @ table[at, widest] for own, at in depths]
        x = jnp.sum(jnp.stack([weight * a for a, weight in zip(aligned, draw.depths[stage], strict=True)]), axis=0)
    return jnp.mean(x, axis=(1, 2)) @ weights["output"]["kernel"] + weights["output"]["bias"][None]


def _mix(
    layer: Params, x: jax.Array, pair: jax.Array, weights: jax.Array, table: jax.Array, strides: int = 1
) -> jax.Array:
    """Return the weighted sum of a convolution's two widths, each with its own norm, aligned to the wider.

    Channels are normalised one by one, so that both widths share the normalised ones. The two norms and alignments are
    then one product with a matrix.
    """
    half = layer["conv"]["kernel"].shape[0] // 2
    x = jax.lax.conv_general_dilated(
        x, layer["conv"]["kernel"], (strides,) * 2, ((half, half),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.standardize(x, axis=(0, 1, 2), epsilon=_EPSILON)
    aligned = weights[:, None, None] * table[pair, jnp.max(pair)]  # (2, channels, channels)
    scale, bias = (layer["norm"][name][pair] for name in ("scale", "bias"))  # (2, channels)
    return x @ jnp.einsum("pc,pcd->cd", scale, aligned) + jnp.einsum("pc,pcd->d", bias, aligned)[None, None, None]
