"""SLaK: a ConvNeXt whose depthwise kernels are larger than 51 × 51, made of branches that merge into one kernel."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._checks import check_fraction, check_images, check_number, check_sizes
from jaxticket.errors import InputError
from jaxticket.models import _layers, _transformer
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree

_EPSILON = 1e-6  # of layer norms
_BATCH_EPSILON = 1e-5
_MERGED = "merged"  # the branch that replaces all others
_NORMAL = nnx.initializers.normal(0.02)  # the authors truncate at ± 2, a hundred deviations away


def slak(
    *,
    classes: int = 1000,
    kernels: tuple[int, ...] = (51, 49, 47, 13),
    small: int = 5,
    decomposed: bool = True,
    width: float = 1.3,
    depths: tuple[int, ...] = (3, 3, 9, 3),
    dims: tuple[int, ...] = (96, 192, 384, 768),
    patch: int = 4,
    channels: int = 3,
    layer_scale: float = 1e-6,
    drop_path: float = 0.0,
) -> Model:
    """Build SLaK: ConvNeXt blocks whose depthwise convolution is a sum of branches, each with its own batch norm.

    A stage of kernel size k has the branches k × small, small × k and small × small if `decomposed`, else k × k and
    small × small. With small ≥ k it has k × k alone: ConvNeXt, but with a batch norm. Padding keeps the size of even
    and odd kernels, which may exceed the image. Between stages a layer norm and a strided 2 × 2 convolution halve the
    image. Kernels are normal with deviation 0.02 and biases are zero, as in the authors' code. The number of blocks is
    read from the parameters. `merge_kernels` makes one kernel of the branches after training.

    Args:
      classes: the number of logits.
      kernels: the size k of each stage's depthwise kernels.
      small: the short side of the branches.
      decomposed: whether two rectangular kernels replace the k × k kernel.
      width: the factor of `dims`; products are rounded down.
      depths: the number of blocks of each stage.
      dims: the number of channels of each stage, before `width`.
      patch: the height and width of the stem's patches in pixels; 4 is published, 2 suits images of 28 or 32 pixels.
      channels: the number of channels of an image.
      layer_scale: the first value of the factors of each block's output.
      drop_path: the probability with which the last block is skipped for an example when training; earlier blocks have
        evenly less, down to 0 for the first. It needs `key`.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, tuples of different lengths, or a drop_path outside [0, 1).

    References:
      Liu et al., "More ConvNets in the 2020s: Scaling up Kernels Beyond 51 × 51 using Sparsity",
        2023, arXiv 2207.03620.

    Examples:
      >>> import jax
      >>> model = slak(classes=10, kernels=(13, 7), depths=(1, 1), dims=(16, 32), patch=2)
      >>> params, state = jax.eval_shape(model.init, jax.random.key(0))
      >>> sorted(params["stage1"]["block1"]["mixer"])
      ['small', 'tall', 'wide']
      >>> params["stage1"]["block1"]["mixer"]["tall"]["conv"]["kernel"].shape
      (13, 5, 1, 20)
    """
    check_sizes(classes=classes, small=small, patch=patch, channels=channels)
    check_number(width=width, layer_scale=layer_scale)
    check_fraction("drop_path", drop_path)
    if drop_path == 1:
        raise InputError("drop_path=1 skips every block; pass a probability below 1, such as 0.1")
    if not len(kernels) == len(depths) == len(dims) > 0:
        raise InputError(f"kernels={kernels}, depths={depths} and dims={dims} must have one entry a stage each")
    widths = tuple(int(width * dim) for dim in dims)
    for index, sizes in enumerate(zip(kernels, depths, widths, strict=True)):
        names = (f"kernels[{index}]", f"depths[{index}]", f"int(width * dims[{index}])")
        check_sizes(**dict(zip(names, sizes, strict=True)))
    stages = tuple(f"stage{index}" for index in range(1, len(depths) + 1))

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, inputs = _layers.keys(key), channels
        layers: _layers.Layers = {}
        for index, stage in enumerate(stages):
            entry = _layers.new_conv(2 if index else patch, inputs, widths[index], _NORMAL, rngs)
            norm = _transformer.new_norm(inputs if index else widths[0], rngs)
            shapes, inputs = _branches(kernels[index], small, decomposed=decomposed), widths[index]
            blocks = {
                f"block{number}": _new_block(shapes, inputs, layer_scale, rngs)
                for number in range(1, depths[index] + 1)
            }
            layers[stage] = {"entry": {"conv": entry, "norm": norm}, **blocks}
        layers["norm"] = _transformer.new_norm(inputs, rngs)
        layers["output"] = _layers.new_dense(inputs, classes, _NORMAL, rngs)
        return _layers.pure(layers)

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        if train and drop_path and key is None:
            raise InputError(f"key=None, but drop_path={drop_path} skips blocks at random; pass a key of jax.random")
        check_images(x, params["stage1"]["entry"]["conv"]["kernel"], least=patch * 2 ** (len(stages) - 1))
        new: dict[str, PyTree] = {}
        names = {
            stage: _tree.in_order({name: block for name, block in params[stage].items() if name != "entry"})
            for stage in stages
        }
        last, number = max(sum(map(len, names.values())) - 1, 1), 0
        for stage in stages:
            x, new[stage] = _enter(params[stage]["entry"], x, first=stage == stages[0]), {}
            for name in names[stage]:
                y, new[stage][name] = _block(params[stage][name], state[stage][name], x, train=train)
                rate = drop_path * number / last
                x = x + (_drop(y, rate, jax.random.fold_in(key, number)) if train and rate and key is not None else y)
                number += 1
        x = _transformer.layer_norm(params["norm"], jnp.mean(x, axis=(1, 2)), epsilon=_EPSILON)
        return _layers.dense(params["output"], x), new

    return Model(init, apply)


def merge_kernels(params: Params, state: PyTree) -> tuple[Params, PyTree]:
    """Merge the branches of each depthwise convolution of `slak` into one kernel and bias, for inference.

    The batch norm of a branch scales its kernel, which is padded with zeros to the largest height and width and summed.
    In evaluation mode the same `apply` gives the same logits, up to rounding. Merged variables stay as they are.

    Args:
      params: the parameters of `slak`.
      state: its batch statistics.

    Returns:
      (params, state) of the merged network. Arrays that are not merged are shared.

    Raises:
      InputError: parameters and state that are not those of `slak`.

    References:
      Liu et al., "More ConvNets in the 2020s: Scaling up Kernels Beyond 51 × 51 using Sparsity",
        2023, arXiv 2207.03620.
      Ding et al., "Scaling Up Your Kernels to 31×31", 2022, arXiv 2203.06717.

    Examples:
      >>> import jax
      >>> model = slak(classes=10, kernels=(13,), depths=(1,), dims=(16,), patch=2)
      >>> params, state = merge_kernels(*model.init(jax.random.key(0)))
      >>> params["stage1"]["block1"]["mixer"]["merged"]["conv"]["kernel"].shape
      (13, 13, 1, 20)
    """
    try:
        merged = {stage: dict(params[stage]) for stage in state}
        for stage, blocks in state.items():
            for name, statistics in blocks.items():
                branches = params[stage][name]["mixer"]
                if _MERGED not in branches:
                    merged[stage][name] = {**params[stage][name], "mixer": _merge(branches, statistics["mixer"])}
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"params and state are not those of models.slak: {error!r}; pass what its init made"
        ) from error
    return {**params, **merged}, {stage: {name: {"mixer": {}} for name in blocks} for stage, blocks in state.items()}


def _branches(size: int, small: int, *, decomposed: bool) -> dict[str, tuple[int, int]]:
    """Return the shapes of the kernels whose outputs are summed."""
    if small >= size:
        return {"large": (size, size)}
    large = {"tall": (size, small), "wide": (small, size)} if decomposed else {"large": (size, size)}
    return {**large, "small": (small, small)}


def _new_block(shapes: dict[str, tuple[int, int]], width: int, layer_scale: float, rngs: nnx.Rngs) -> _layers.Layers:
    mixer = {}
    for name, shape in shapes.items():
        options: dict[str, Any] = {
            "feature_group_count": width,
            "use_bias": False,
            "kernel_init": _NORMAL,
            "rngs": rngs,
        }
        mixer[name] = {
            "conv": nnx.Conv(width, width, shape, **options),
            "norm": _layers.new_norm(width, nnx.initializers.ones, rngs),
        }
    return {
        "mixer": mixer,
        "norm": _transformer.new_norm(width, rngs),
        "hidden": _layers.new_dense(width, 4 * width, _NORMAL, rngs),
        "output": _layers.new_dense(4 * width, width, _NORMAL, rngs),
        "layer": {"scale": nnx.Param(jnp.full(width, layer_scale))},
    }


def _enter(params: Params, x: jax.Array, *, first: bool) -> jax.Array:
    """Reduce the image: the stem normalises its convolution's output, later stages normalise the input."""
    x = x if first else _transformer.layer_norm(params["norm"], x, epsilon=_EPSILON)
    x = _layers.conv(params["conv"], x, strides=params["conv"]["kernel"].shape[0], padding="VALID")
    return _transformer.layer_norm(params["norm"], x, epsilon=_EPSILON) if first else x


def _block(params: Params, statistics: PyTree, x: jax.Array, *, train: bool) -> tuple[jax.Array, PyTree]:
    """Return the block's output, without its input."""
    x, new = _mix(params["mixer"], statistics["mixer"], x, train=train)
    x = _layers.dense(params["hidden"], _transformer.layer_norm(params["norm"], x, epsilon=_EPSILON))
    x = _layers.dense(params["output"], jax.nn.gelu(x, approximate=False))
    return params["layer"]["scale"][(None,) * (x.ndim - 1)] * x, {"mixer": new}


def _mix(params: Params, statistics: PyTree, x: jax.Array, *, train: bool) -> tuple[jax.Array, PyTree]:
    """Return the sum of the branches, each a depthwise convolution and its batch norm; a merged one has no norm."""
    total, new = jnp.zeros_like(x), {}
    for name, branch in params.items():
        y = _layers.conv(branch["conv"], x, groups=x.shape[-1], padding="SAME")
        if name != _MERGED:
            y, norm = _layers.batch_norm(
                branch["norm"], statistics[name]["norm"], y, train=train, epsilon=_BATCH_EPSILON
            )
            new[name] = {"norm": norm}
        total = total + y
    return total, new


def _drop(x: jax.Array, rate: float, key: Key) -> jax.Array:
    """Drop whole examples with this probability, and enlarge the others so that the mean stays."""
    kept = jax.random.bernoulli(key, 1 - rate, (x.shape[0], 1, 1, 1))
    return jnp.where(kept, x / (1 - rate), 0)


def _merge(branches: Params, statistics: PyTree) -> Params:
    kernels, biases = [], []
    for name, branch in branches.items():
        norm, running = branch["norm"], statistics[name]["norm"]
        factor = norm["scale"] / jnp.sqrt(running["var"] + _BATCH_EPSILON)
        kernels.append(branch["conv"]["kernel"] * factor[None, None, None])
        biases.append(norm["bias"] - running["mean"] * factor)
    height, width = (max(kernel.shape[axis] for kernel in kernels) for axis in (0, 1))
    padded = [_centre(kernel, height, width) for kernel in kernels]
    return {_MERGED: {"conv": {"kernel": sum(padded[1:], padded[0]), "bias": sum(biases[1:], biases[0])}}}


def _centre(kernel: jax.Array, height: int, width: int) -> jax.Array:
    """Pad with zeros such that the tap which reads a pixel itself stays so: (size − 1) // 2 in "SAME" padding."""
    pads = []
    for size, full in zip(kernel.shape[:2], (height, width), strict=True):
        before = (full - 1) // 2 - (size - 1) // 2
        pads.append((before, full - size - before))
    return jnp.pad(kernel, (*pads, (0, 0), (0, 0)))
