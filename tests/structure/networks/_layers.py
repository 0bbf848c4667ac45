"""Layers as plain functions of a dictionary of arrays, the shapes of these, and short forms of their places."""

from typing import Any

import jax
import jax.numpy as jnp

Variables = dict[str, Any]


def dense_shapes(n_in: int, n_out: int) -> Variables:
    return {"kernel": (n_in, n_out), "bias": (n_out,)}


def conv_shapes(n_in: int, n_out: int, size: int = 3) -> Variables:
    return {"kernel": (size, size, n_in, n_out), "bias": (n_out,)}


def norm_shapes(width: int) -> Variables:
    return {"scale": (width,), "bias": (width,), "mean": (width,), "var": (width,)}


def affine_shapes(width: int) -> Variables:
    return {"scale": (width,), "bias": (width,)}


def out(*names: str) -> str:
    """Return the places of the outputs of dense layers."""
    return " ".join(f"{name}/kernel:1 {name}/bias:0" for name in names)


def rows(*names: str, inner: int) -> str:
    """Return the places of the outputs of dense layers in which a head has so many neighbouring channels."""
    return " ".join(f"{name}/kernel:1/{inner} {name}/bias:0/{inner}" for name in names)


def conv_out(*names: str) -> str:
    """Return the places of the outputs of convolutions."""
    return " ".join(f"{name}/kernel:3 {name}/bias:0" for name in names)


def norm_places(*names: str) -> str:
    """Return the places of batch normalisations."""
    return " ".join(f"{name}/{leaf}:0" for name in names for leaf in ("scale", "bias", "mean", "var"))


def affine_places(*names: str) -> str:
    """Return the places of normalisations without running statistics."""
    return " ".join(f"{name}/{leaf}:0" for name in names for leaf in ("scale", "bias"))


def last(vector: jax.Array, like: jax.Array) -> jax.Array:
    """Return a vector as the last axis of an array of as many axes as another one has."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


def dense(v: Variables, x: jax.Array) -> jax.Array:
    y = x @ v["kernel"]
    return y + last(v["bias"], y)


def conv(
    v: Variables, x: jax.Array, *, stride: int = 1, groups: int = 1, padding: str = "SAME", layout: str = "NHWC"
) -> jax.Array:
    """Return a 2D convolution; kernels are HWIO in the layout NHWC, and OIHW in NCHW."""
    numbers = ("NHWC", "HWIO", "NHWC") if layout == "NHWC" else ("NCHW", "OIHW", "NCHW")
    y = jax.lax.conv_general_dilated(
        x, v["kernel"], (stride, stride), padding, dimension_numbers=numbers, feature_group_count=groups
    )
    return y + (last(v["bias"], y) if layout == "NHWC" else v["bias"][None, :, None, None])


def depthwise(v: Variables, x: jax.Array) -> jax.Array:
    return conv(v, x, groups=x.shape[-1])


def batch_norm(v: Variables, x: jax.Array) -> jax.Array:
    scale, bias, mean, var = (last(v[leaf], x) for leaf in ("scale", "bias", "mean", "var"))
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * scale + bias


def batch_norm_train(v: Variables, x: jax.Array) -> tuple[jax.Array, Variables]:
    """Return the output by the batch's statistics, and the new running statistics."""
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    new = {"mean": 0.9 * v["mean"] + 0.1 * mean, "var": 0.9 * v["var"] + 0.1 * var}
    return batch_norm({**v, "mean": mean, "var": var}, x), new


def layer_norm(v: Variables, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    normal = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)
    return normal * last(v["scale"], x) + last(v["bias"], x)


def pool_mean(x: jax.Array) -> jax.Array:
    """Return the mean over the spatial axes of images NHWC."""
    return x.mean((1, 2))


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, scale: float = 0.5) -> jax.Array:
    """Return the attention of queries to keys, all [batch, token, head, dim]; the scale is a constant."""
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) * scale, axis=-1)
    return jnp.einsum("bhts,bshd->bthd", weights, v)


def split_heads(x: jax.Array, head_dim: int) -> jax.Array:
    return x.reshape(*x.shape[:-1], -1, head_dim)


def merge_heads(x: jax.Array) -> jax.Array:
    return x.reshape(*x.shape[:-2], -1)
