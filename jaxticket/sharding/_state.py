"""Optimizer states on a mesh: masks and moments are laid out like their parameters."""

from typing import Any

import jax
import optax
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from jaxticket._check_trees import check_structure
from jaxticket.errors import StructureError
from jaxticket.typing import Params, PyTree


def state_shardings(tx: optax.GradientTransformation, params: Params, shardings: PyTree) -> PyTree:
    """Return the shardings of `tx.init(params)`: masks and moments like their parameters, everything else replicated.

    Use them as `out_shardings=` of jit on an Auto mesh, where otherwise even Adam's moments are put on one device.

    Args:
      tx: any optax transform, with or without `sparsify`.
      params: arrays or ShapeDtypeStructs; nothing is computed.
      shardings: NamedShardings with the structure of `params`.

    Returns:
      A pytree of NamedShardings with the structure of the state. A leaf that has its parameter's path and shape is laid
        out like it; along axes where it has size 1 (channel masks, factored moments) it is replicated.

    Raises:
      StructureError: `shardings` that do not match `params`.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from jax.sharding import NamedSharding, PartitionSpec
      >>> mesh = jax.make_mesh((1,), ("x",))
      >>> by_row = NamedSharding(mesh, PartitionSpec("x"))
      >>> tuple(state_shardings(optax.adam(0.1), {"w": jnp.ones((2, 3))}, {"w": by_row})[0].mu["w"].spec)
      ('x', None)
    """
    shardings = check_structure("shardings", shardings, "params", params)
    layouts = {
        _tail(path): (p.shape, s)
        for (path, p), s in zip(
            jax.tree_util.tree_flatten_with_path(params)[0], jax.tree.leaves(shardings), strict=True
        )
    }
    if not layouts:
        raise StructureError("params holds no arrays.")
    mesh = next(iter(layouts.values()))[1].mesh
    replicated = NamedSharding(mesh, PartitionSpec())

    def layout(path: tuple[Any, ...], leaf: Any) -> Sharding:
        names = _tail(path)
        # The longest parameter path that ends the state's path: states nest the parameter tree whole.
        for start in range(len(names) + 1):
            if names[start:] in layouts:
                return _fit_spec(leaf.shape, *layouts[names[start:]])
        return replicated

    return jax.tree_util.tree_map_with_path(layout, jax.eval_shape(tx.init, params))


def _tail(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(str(key) for key in path)


def _fit_spec(shape: tuple[int, ...], of_param: tuple[int, ...], sharding: NamedSharding) -> NamedSharding:
    if len(shape) != len(of_param):
        return NamedSharding(sharding.mesh, PartitionSpec())
    spec = tuple(sharding.spec) + (None,) * (len(shape) - len(sharding.spec))
    kept = [axis if n == full else None for axis, n, full in zip(spec, shape, of_param, strict=True)]
    return NamedSharding(sharding.mesh, PartitionSpec(*kept))
