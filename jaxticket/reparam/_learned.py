"""Thresholds that are learned beside the weights. A penalty in the loss decides the sparsity.

The penalty is a function of the latent parameters:
`loss(method.realise(latent, count=step)) + strength * threshold_decay(latent)`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters
from jaxticket.reparam._base import Latent, Reparam, copy_params, only_real
from jaxticket.typing import Filter, Key, Mask, Params


def soft_threshold(*, initial: float = -5.0, where: Filter = filters.weights()) -> Reparam:
    """Learn a threshold for each leaf, by which all its weights shrink (STR; Kusupati et al., 2020).

        p = sign(θ) · max(|θ| − σ(s), 0)

    `Latent.learned` holds one s for each leaf, float32. Without `threshold_decay` (or weight decay in the optimizer of
    the group "learned") nothing draws s up from where it starts. Masked weights are exact zeros at every step.

    Args:
      initial: s at the start; its sigmoid should lie below most weights. It depends on the length of the training: the
        authors' configurations for ImageNet have −3,200 (ResNet-50) and −12,800 (MobileNet-V1), with the decay that
        their appendix gives each sparsity; −5 suits short ones.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Examples:
      >>> import jax.numpy as jnp
      >>> method = soft_threshold(initial=0.0)
      >>> method.realise(method.init({"w": jnp.array([[1.0, -3.0, 0.5]])}), count=0)["w"]
      Array([[ 0.5, -2.5,  0. ]], dtype=float32)
    """

    def init(params: Params, *, key: Key | None = None) -> Latent:
        del key
        first = lambda p: jnp.full((1,) * p.ndim, initial, jnp.float32)
        chosen = only_real(params, where)
        return Latent(copy_params(params), _tree.map_present(first, chosen))

    def mask(latent: Latent, *, count: Any) -> Mask:
        del count
        above = lambda s, p: jnp.abs(p) > jax.nn.sigmoid(s).astype(p.dtype)
        return _tree.map_present(above, *jax.lax.stop_gradient((latent.learned, latent.weights)))

    def realise(latent: Latent, *, count: Any, key: Key | None = None) -> Params:
        del key

        def shrink(p: jax.Array, s: jax.Array | None, kept: jax.Array | None) -> jax.Array:
            if s is None or kept is None:
                return p
            return jnp.where(kept, p - jnp.sign(p) * jax.nn.sigmoid(s).astype(p.dtype), 0)

        return _tree.tree_map(shrink, latent.weights, latent.learned, mask(latent, count=count))

    return Reparam(init, realise, mask)


def threshold_decay(latent: Latent) -> jax.Array:
    """Return Σ s² / 2 over leaves, the penalty whose gradient is weight decay on the thresholds of `soft_threshold`.

    Times its strength it prunes: it draws s from far below zero towards 0. The authors decay s and the weights alike,
    with SGD. Steps of Adam do not depend on the size of a gradient: there the decay is strong whenever it is stronger
    than the loss.

    Examples:
      >>> import jax.numpy as jnp
      >>> method = soft_threshold(initial=-4.0)
      >>> threshold_decay(method.init({"a": {"w": jnp.ones((1, 2))}, "b": {"w": jnp.ones((2, 2))}}))
      Array(16., dtype=float32)
    """
    return sum((jnp.sum(s * s) for s in jax.tree.leaves(latent.learned)), start=jnp.float32(0)) / 2
