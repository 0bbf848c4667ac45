"""Gradients over a batch that devices share: summed as XLA likes, or in an order that no layout changes."""

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxticket.errors import InputError
from jaxticket.typing import Key, Params, PyTree

SHARDS = 8  # parts of a batch for a fixed order, by default

Reduction = Literal["any", "fixed"]
LossFn = Callable[[Params, PyTree, PyTree, Key], tuple[jax.Array, PyTree]]
GradientFn = Callable[[Params, PyTree, PyTree, Key], tuple[tuple[jax.Array, PyTree], Params]]


def value_and_grad(
    loss: LossFn, *, mesh: Mesh | None = None, axis: str = "data", reduction: Reduction = "any", shards: int = SHARDS
) -> GradientFn:
    """Return a function of the loss, the new model state and the gradient of a batch that devices share.

    Sums of floats depend on their order, and XLA's order on the number of devices. `reduction="fixed"` cuts the batch
    into `shards` equal parts whatever the devices are. It takes the mean of the loss, the state and the gradient over
    them in one fixed binary tree. So it gives the same bits on 1, 2, … `shards` devices or processes of one backend and
    version. It costs an exchange of shards / devices gradients (all-to-all) and one gathering of the mean. Every device
    computes its parts one after the other. Weights are whole on each device while they are used.

    Args:
      loss: loss(params, state, batch, key) -> (mean loss over the batch, new state). With "fixed" each part has a key
        of its own, and the mean is taken of its state, such as batch statistics.
      mesh: None for wherever the arguments are; "fixed" needs one, jax.make_mesh((1,), ("data",)) for one device.
      axis: the axis of the mesh that splits the first axis of each array of the batch.
      reduction: "any" order, or the "fixed" one.
      shards: a power of 2 that the devices divide, for "fixed".

    Returns:
      f(params, state, batch, key) -> ((loss, state), gradient), to be called under jit.

    Raises:
      InputError: an unknown `reduction` or `axis`, shards that are not a power of 2 or not divided by the devices, and
        "fixed" without a mesh; when traced, a batch that the parts do not divide.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> f = value_and_grad(lambda p, s, x, key: (jnp.mean(p * x), s), mesh=mesh, reduction="fixed", shards=4)
      >>> float(jax.jit(f)(jnp.float32(2.0), None, jnp.arange(8.0), jax.random.key(0))[1])
      3.5
    """
    if reduction not in get_args(Reduction):
        raise InputError(f"reduction={reduction!r} must be one of {', '.join(get_args(Reduction))}")
    gradient = jax.value_and_grad(loss, has_aux=True)
    if mesh is None:
        if reduction == "fixed":
            raise InputError('reduction="fixed" needs mesh=, for one device jax.make_mesh((1,), ("data",))')
        return gradient
    if axis not in mesh.shape:
        raise InputError(f"axis={axis!r} is not an axis of the mesh, which has {list(mesh.shape)}")
    if reduction == "any":
        return _split(gradient, mesh, PartitionSpec(axis))
    devices = mesh.shape[axis]
    if shards < 1 or shards & (shards - 1) or shards % devices:
        raise InputError(f"shards={shards} must be a power of 2 that {devices} devices divide")
    local = shards // devices

    def parts(params: Params, state: PyTree, batch: PyTree, key: Key, numbers: jax.Array) -> Any:
        """Return the mean over all parts, of which this device computes those of these `numbers`."""

        def add_part(at: jax.Array, results: PyTree) -> PyTree:
            part = jax.tree.map(lambda x: x[at], batch)
            new = gradient(params, state, part, jax.random.fold_in(key, numbers[at]))
            return jax.tree.map(lambda all_, x: all_.at[at].set(x), results, new)

        batch = jax.tree.map(lambda x: x.reshape(local, -1, *x.shape[1:]), batch)
        like = jax.eval_shape(gradient, params, state, jax.tree.map(lambda x: x[0], batch), key)
        results = jax.tree.map(lambda x: jnp.zeros((local, *x.shape), x.dtype), like)
        # XLA must not know this bound, or it would unroll a loop of one turn and fuse (and round) otherwise.
        count = jnp.sum(numbers >= 0, dtype=jnp.int32)
        results = jax.lax.fori_loop(0, count, add_part, results)
        mean = _means(results, axis, devices)
        return jax.lax.optimization_barrier(mean)  # or sum and optimizer would be fused, and rounded, in several ways

    whole, cut = PartitionSpec(), PartitionSpec(axis)
    specs = (whole, whole, cut, whole, cut)
    mapped = jax.shard_map(parts, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)

    def fixed(params: Params, state: PyTree, batch: PyTree, key: Key) -> Any:
        _check_batch(batch, shards)
        arguments = (params, state, batch, key, jnp.arange(shards, dtype=jnp.int32))
        return mapped(*(_lay(x, mesh, spec) for x, spec in zip(arguments, specs, strict=True)))

    return fixed


def _split(gradient: GradientFn, mesh: Mesh, spec: PartitionSpec) -> GradientFn:
    def split(params: Params, state: PyTree, batch: PyTree, key: Key) -> Any:
        return gradient(params, state, _lay(batch, mesh, spec), key)

    return split


def _lay(tree: PyTree, mesh: Mesh, spec: PartitionSpec) -> PyTree:
    """Lay the arrays out on the mesh: by a constraint where GSPMD decides, by a new type where types hold shardings."""
    move = jax.reshard if AxisType.Explicit in mesh.axis_types else jax.lax.with_sharding_constraint
    return jax.tree.map(lambda x: move(x, NamedSharding(mesh, spec)), tree)


def _means(parts: PyTree, axis: str, devices: int) -> PyTree:
    """Return means over the leading axis of each leaf and the devices, which hold consecutive parts, in a fixed binary
    tree.

    All leaves of a dtype travel as one vector. Each device sums a slice of all parts, and the slices are gathered.
    """
    leaves, structure = jax.tree.flatten(parts)
    means: list[Any] = [None] * len(leaves)
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
        alike = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
        flat = jnp.concatenate([leaves[i].reshape(leaves[i].shape[0], -1) for i in alike], axis=1)
        flat = jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % devices)))
        slices = jax.lax.all_to_all(flat, axis, split_axis=1, concat_axis=0, tiled=True)
        mean = jax.lax.all_gather(_tree_mean(slices), axis, tiled=True)
        shapes = [leaves[i].shape[1:] for i in alike]
        ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
        for i, shape, part in zip(alike, shapes, jnp.split(mean, ends), strict=False):  # the last part is padding
            means[i] = part.reshape(shape)
    return jax.tree.unflatten(structure, means)


def _tree_mean(x: jax.Array) -> jax.Array:
    count = x.shape[0]
    while x.shape[0] > 1:
        x = x[0::2] + x[1::2]
    # By a power of 2, which is exact; counts in the state stay integers.
    return x[0] // count if jnp.issubdtype(x.dtype, jnp.integer) else x[0] * (1 / count)


def _check_batch(batch: PyTree, shards: int) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(batch)[0]:
        if not leaf.ndim or leaf.shape[0] % shards:
            name = jax.tree_util.keystr(path)
            raise InputError(
                f"batch{name} has shape {leaf.shape}; its first axis must be a multiple of {shards} shards"
            )
