"""The layers that the models share: NNX layers around given arrays, and layers made with an initialiser.

`bind` lets a model run on sliced parameters: a layer is as wide as the arrays that it gets, whatever its width was when
it was made.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from jaxticket.errors import MissingExtraError
from jaxticket.typing import Key, Params, PyTree

try:
    from flax import nnx as nnx
except ImportError as error:
    raise MissingExtraError("flax", "models") from error

Initialiser = Callable[..., jax.Array]  # (key, shape, dtype) -> array, as jax.nn.initializers make them
Layers = dict[str, Any]  # nested dicts of NNX layers

# The kaiming_normal of torch: not truncated, unlike nnx.initializers.he_normal.
kaiming_normal = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class _Keys:
    """The keys of nnx.Rngs(params=key), which counts them in an NNX variable: most of the time of tracing an init."""

    def __init__(self, key: Key):
        self._key, self._count = key, 0

    def params(self) -> Key:
        self._count += 1
        return jax.random.fold_in(self._key, self._count - 1)


def keys(key: Key) -> nnx.Rngs:
    """Return the generator from which NNX layers draw their parameters."""
    return cast(nnx.Rngs, _Keys(key))


def pure(layers: Layers) -> tuple[Params, PyTree]:
    """Return the parameters of nested dicts of NNX layers, and their batch statistics (None where there are none)."""
    module = _as_module(layers)
    params, statistics = (nnx.to_pure_dict(nnx.state(module, kind)) for kind in (nnx.Param, nnx.BatchStat))
    return params, statistics or None


def new_dense(inputs: int, outputs: int, kernel_init: Initialiser, rngs: nnx.Rngs) -> nnx.Linear:
    """Make a fully connected layer whose bias is zero."""
    return nnx.Linear(inputs, outputs, kernel_init=kernel_init, rngs=rngs)


def new_conv(
    size: int, inputs: int, outputs: int, kernel_init: Initialiser, rngs: nnx.Rngs, **options: Any
) -> nnx.Conv:
    """Make a convolution with kernels of size × size."""
    return nnx.Conv(inputs, outputs, (size, size), kernel_init=kernel_init, rngs=rngs, **options)


def new_norm(features: int, scale_init: Initialiser, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Make a batch norm whose shift is zero."""
    return nnx.BatchNorm(features, scale_init=scale_init, rngs=rngs)


def new_conv_norm(size: int, inputs: int, outputs: int, rngs: nnx.Rngs) -> Layers:
    """Make a convolution without bias and its batch norm, drawn as in open_lth: Kaiming-normal, scales in [0, 1)."""
    return {
        "conv": new_conv(size, inputs, outputs, kaiming_normal, rngs, use_bias=False),
        "norm": new_norm(outputs, nnx.initializers.uniform(1.0), rngs),
    }


def dense(params: Params, x: jax.Array) -> jax.Array:
    """Return x @ kernel + bias, if it has one."""
    return bind(params, nnx.Linear, *params["kernel"].shape, use_bias="bias" in params)(x)


def conv(params: Params, x: jax.Array, *, strides: int = 1, groups: int = 1, padding: str | None = None) -> jax.Array:
    """Convolve with padding by half a kernel on each side, or as `jax.lax` names it.

    The former is torch's padding, which "SAME" is not where it strides.
    """
    *size, inputs, outputs = params["kernel"].shape
    half = tuple((length // 2, length // 2) for length in size)
    options = {"strides": strides, "padding": padding or half, "feature_group_count": groups}
    return bind(params, nnx.Conv, inputs * groups, outputs, tuple(size), use_bias="bias" in params, **options)(x)


def batch_norm(
    params: Params, statistics: PyTree, x: jax.Array, *, train: bool, epsilon: float = 1e-5, momentum: float = 0.9
) -> tuple[jax.Array, PyTree]:
    """Normalise x by its batch's statistics, and return new running ones, if `train`; else by the running ones.

    Running statistics keep `momentum` of themselves at a step (torch calls 1 − momentum so), and hold the biased
    variance; they stay float32 where x is bfloat16.
    """
    statistics = jax.tree.map(jnp.asarray, statistics)  # NNX would update the caller's numpy arrays in place
    options = {"epsilon": epsilon, "momentum": momentum, "dtype": x.dtype}
    layer = bind({**params, **statistics}, nnx.BatchNorm, x.shape[-1], **options)
    x = layer(x, use_running_average=not train)
    return x, {"mean": layer.mean[...], "var": layer.var[...]}


def conv_norm(
    params: Params, statistics: PyTree, x: jax.Array, *, train: bool, strides: int = 1
) -> tuple[jax.Array, PyTree]:
    """Apply a convolution and its batch norm, named conv and norm."""
    x, norm = batch_norm(params["norm"], statistics["norm"], conv(params["conv"], x, strides=strides), train=train)
    return x, {"norm": norm}


def max_pool(x: jax.Array) -> jax.Array:
    """Return the largest of each 2 × 2 pixels; an odd row or column at the end is dropped."""
    return nnx.max_pool(x, (2, 2), strides=(2, 2))


def bind(arrays: Params, kind: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return the NNX layer that kind(*args, **options) describes, around given arrays: no weight is drawn or copied."""
    return nnx.merge(_graph(kind, *args, **options), arrays)


@functools.cache
def _graph(kind: Callable[..., Any], *args: Any, **options: Any) -> nnx.GraphDef[Any]:
    """Return a layer without its arrays. The result is kept, since describing a layer takes longer than tracing it."""
    return nnx.split(nnx.eval_shape(lambda: kind(*args, **options, rngs=nnx.Rngs(0))))[0]


def _as_module(layers: Layers) -> nnx.Dict[Any]:
    return nnx.Dict({name: _as_module(item) if isinstance(item, dict) else item for name, item in layers.items()})
