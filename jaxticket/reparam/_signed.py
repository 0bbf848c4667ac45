"""Signed supermasks: weights stay as they were drawn, and a ternary mask keeps, drops or negates each."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters
from jaxticket._checks import check_number, known
from jaxticket.errors import InputError
from jaxticket.reparam._base import Latent, Reparam, copy_params, only_real, silence, trains
from jaxticket.reparam._initialise import Draw, draw_leaves
from jaxticket.typing import Filter, Key, Mask, Params, SignMask


def signed_supermask(
    threshold: float | jax.Array = 0.4,
    *,
    mask_init: Draw = jax.nn.initializers.glorot_uniform(),
    where: Filter = filters.weights(),
) -> Reparam:
    """Learn a ternary mask on untrained weights (signed supermask; Koster et al., 2022).

        p = w ⊙ q,   q = sign(s) · [|s| > τ],   ∇s = w ⊙ ∇p

    s is `Latent.learned`, trained alone by `wrap(inner)`. τ, a `Latent.constants` of each leaf, is `threshold` times
    the largest |s| at the start. A uniform s begins with 1 − threshold of the weights; training decides how many are
    left. The decay of `sgdw` drives s below τ. The authors train 100 epochs of 390 steps with ELU and
    `signed_constant(…, scale=3)` (two of their files differ in this factor). Their `sgdw` has a learning rate of 0.005
    and a decay of 3e-4, which both fall by a tenth every 10 epochs.

    Args:
      threshold: τ as a part of the largest first |s|.
      mask_init: (key, shape, dtype) -> first s.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Raises:
      InputError: a threshold outside [0, 1).

    Examples:
      >>> latent = Latent({"w": jnp.array([[2.0, 3.0, 5.0]])}, {"w": jnp.array([[0.1, -0.4, 0.3]])}, {"w": 0.2})
      >>> signed_supermask().realise(latent, count=0)["w"]
      Array([[ 0., -3.,  5.]], dtype=float32)
    """
    check_number(threshold=threshold)
    if not isinstance(threshold, jax.core.Tracer) and not 0 <= known(threshold) < 1:
        raise InputError(f"threshold={threshold} must be at least 0 and below 1; at 1 nothing would be kept.")

    def init(params: Params, *, key: Key | None = None) -> Latent:
        learned = draw_leaves(only_real(params, where), key, mask_init)
        thresholds = _tree.map_present(lambda s: (threshold * jnp.max(jnp.abs(s), initial=0)).astype(s.dtype), learned)
        return Latent(copy_params(params), learned, thresholds)

    def mask(latent: Latent, *, count: Any) -> Mask:
        del count
        return _tree.map_present(lambda q: q != 0, sign_mask(latent))

    def realise(latent: Latent, *, count: Any, key: Key | None = None) -> Params:
        del count, key

        def apply_sign(w: jax.Array, s: jax.Array | None, q: jax.Array | None) -> jax.Array:
            if s is None or q is None:
                return w
            w = jax.lax.stop_gradient(w)
            return jnp.where(q == 0, 0, jnp.where(q < 0, -w, w)) + w * silence(s)

        return _tree.tree_map(apply_sign, latent.weights, latent.learned, sign_mask(latent))

    return Reparam(init, realise, mask, trains("learned"))


def sgdw(
    learning_rate: optax.ScalarOrSchedule, *, weight_decay: optax.ScalarOrSchedule, momentum: float = 0.9
) -> optax.GradientTransformation:
    """Return SGD with Nesterov's momentum and a decay that is not times the learning rate (Koster et al., 2022).

        v ← μ v − η ∇,   s ← (1 − λ) s + μ v − η ∇

    This is the SGDW of TensorFlow Addons. optax.adamw and its like multiply the decay by the learning rate: at 0.005
    two hundred times too little for signed supermasks. As in Keras, η is in the velocity.

    Args:
      learning_rate: η, or a schedule of it.
      weight_decay: λ, or a schedule of it.
      momentum: μ.

    Returns:
      The optax transform.

    Examples:
      >>> tx = sgdw(0.005, weight_decay=3e-4)
      >>> score = jnp.float32(1.0)
      >>> updates, _ = tx.update(jnp.float32(0.0), tx.init(score), score)
      >>> round(float(score + updates), 7)
      0.9997
    """
    shrink = (lambda count: -weight_decay(count)) if callable(weight_decay) else -weight_decay
    return optax.chain(
        optax.scale_by_learning_rate(learning_rate),
        optax.trace(momentum, nesterov=True),
        optax.add_decayed_weights(shrink),
    )


def sign_mask(latent: Latent) -> SignMask:
    """Return the ternary mask of a signed supermask: 1 keeps a weight, −1 negates it, 0 drops it.

    It is int8, in the shapes of the weights; None for leaves that are not sparsified. With the first weights, or the
    key that drew them, it is the whole network.
    Examples:
      >>> latent = Latent({"w": jnp.ones(3), "b": jnp.ones(1)}, {"w": jnp.array([0.1, -0.4, 0.3]), "b": None},
      ...                 {"w": 0.2, "b": None})
      >>> sign_mask(latent)
      {'b': None, 'w': Array([ 0, -1,  1], dtype=int8)}
    """
    sign_of = lambda s, tau: jnp.where(jnp.abs(s) > tau, jnp.sign(s), 0).astype(jnp.int8)
    return _tree.map_present(sign_of, jax.lax.stop_gradient(latent.learned), latent.constants)
