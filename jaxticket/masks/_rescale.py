"""Initial weights that grow with the sparsity, so that a sparse layer passes on as much as the dense one."""

import jax
import jax.numpy as jnp

from jaxticket import _tree, scopes
from jaxticket._check_trees import check_fits
from jaxticket.masks._apply import apply_mask
from jaxticket.scopes import Scope
from jaxticket.typing import Mask, Params, PyTree


def rescale_init(params: Params, mask: Mask, *, scope: Scope = scopes.leaf()) -> Params:
    """Return the masked parameters, with the weights that a scope keeps divided by the root of its density.

        w ← m w / √(kept / all)

    The sum over the inputs that are left then has the variance that it has over all inputs. `scopes.leaf()` takes the
    density of the layer, as the code of Liu et al. (2019) and `layer_scaled_init` in that of Evci et al. (2022) do. A
    slice for each output takes its own fan-in, as `unit_scaled_init` of Evci et al. does: `scopes.slices(-1)` for
    kernels (..., inputs, outputs) of flax and haiku, `scopes.slices(0)` for weights (outputs, inputs, ...) of equinox.
    These codes draw new weights, by default for fan-out (Liu et al.) and for the mean of both fans (Evci et al.); this
    scales weights of any distribution. It is for initial weights only: others have learnt their scale.

    Args:
      params: the initial parameters, masked or not.
      mask: their mask; leaves where it is None stay as they are.
      scope: the weights that share a density. A scope that keeps nothing stays at zero.

    Returns:
      The parameters; leaves keep their dtype.

    Raises:
      StructureError: a mask that does not fit the parameters.
      InputError: a mask that is not bool, or an axis that a leaf lacks.

    Examples:
      >>> kernel = jnp.ones((4, 2))
      >>> mask = jnp.array([[True, True]] + [[True, False]] * 3)  # the second output keeps one input of four
      >>> rescale_init(kernel, mask, scope=scopes.slices(-1))[0]
      Array([1., 2.], dtype=float32)

    References:
      Liu et al., Rethinking the Value of Network Pruning, 2019.
      Evci et al., Gradient Flow in Sparse Neural Networks and How Lottery Tickets Win, 2022.
    """
    mask = check_fits(params, mask)
    full = _tree.map_present(lambda p, m: jnp.broadcast_to(m, p.shape), params, mask)
    bound = scope.bind(full)
    kept = _counts(full, bound, joint=scope.joint)
    size = _counts(jax.tree.map(jnp.ones_like, full), bound, joint=scope.joint)

    def rescale(p: jax.Array, kept: jax.Array, size: jax.Array) -> jax.Array:
        return (p * jnp.sqrt(size / jnp.maximum(kept, 1))).astype(p.dtype)

    masked = apply_mask(params, mask)
    rescaled = _tree.map_present(rescale, masked, kept, size)
    return _tree.tree_map(lambda p, r: p if r is None else r, masked, rescaled)


def _counts(full: Mask, bound: PyTree, *, joint: bool) -> PyTree:
    """Return, for each entry, the number of entries of its scope that are True."""

    def count(m: jax.Array, scope: Scope) -> jax.Array:
        view = scope.view(m).astype(jnp.float32)
        return scope.unview(jnp.broadcast_to(view.sum(scope.axes(m.shape), keepdims=True), view.shape), m.shape)

    counts = _tree.map_present(count, full, bound)
    if not joint:
        return counts
    together = sum(m.sum(dtype=jnp.float32) for m in jax.tree.leaves(full))
    return jax.tree.map(lambda c: jnp.full_like(c, together), counts)
