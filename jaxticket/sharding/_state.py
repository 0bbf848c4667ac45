"""Optimizer states on a mesh: masks and moments are laid out like their parameters."""

from typing import Any

import jax
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

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
    if not jax.tree.leaves(shardings):
        raise StructureError("params holds no arrays.")
    mesh = jax.tree.leaves(shardings)[0].mesh
    specs = state_specs(tx, params, jax.tree.map(lambda s: s.spec, shardings))
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def state_specs(tx: optax.GradientTransformation, params: Params, specs: PyTree) -> PyTree:
    """Return the PartitionSpecs of `tx.init(params)`, as `state_shardings` does: for shard_map, and before a mesh.

    Args:
      tx: any optax transform, with or without `sparsify`.
      params: arrays or ShapeDtypeStructs; nothing is computed.
      specs: PartitionSpecs with the structure of `params`.

    Returns:
      A pytree of PartitionSpecs with the structure of the state.

    Raises:
      StructureError: `specs` that do not match `params`.

    Examples:
      >>> import jax.numpy as jnp, optax, jaxticket as jt
      >>> tx = jt.sparsify(optax.adam(0.1), jt.static(0.5))
      >>> specs = state_specs(tx, {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, {"kernel": P("x"), "bias": P()})
      >>> specs.mask, specs.inner[0].mu["kernel"], specs.steps
      ({'bias': None, 'kernel': P('x', None)}, P('x', None), P())
    """
    specs = check_structure("specs", specs, "params", params)
    layouts = {
        _tail(path): (p.shape, spec)
        for (path, p), spec in zip(jax.tree_util.tree_flatten_with_path(params)[0], jax.tree.leaves(specs), strict=True)
    }
    if not layouts:
        raise StructureError("params holds no arrays.")

    def layout(path: tuple[Any, ...], leaf: Any) -> P:
        names = _tail(path)
        # The longest parameter path that ends the state's path: states nest the parameter tree whole.
        for start in range(len(names) + 1):
            if names[start:] in layouts:
                return _fit_spec(leaf.shape, *layouts[names[start:]])
        return P()

    return jax.tree_util.tree_map_with_path(layout, jax.eval_shape(tx.init, params))


def _tail(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(str(key) for key in path)


def _fit_spec(shape: tuple[int, ...], of_param: tuple[int, ...], given: P) -> P:
    if len(shape) != len(of_param):
        return P()
    spec = tuple(given) + (None,) * (len(shape) - len(given))
    return P(*(axis if n == full else None for axis, n, full in zip(spec, shape, of_param, strict=True)))
