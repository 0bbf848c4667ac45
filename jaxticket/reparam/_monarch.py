"""Kernels as products of two block-diagonal factors, which are trained in their place."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters
from jaxticket._checks import check_key
from jaxticket.errors import InputError
from jaxticket.execution import Monarch, draw_monarch, pack_monarch
from jaxticket.execution._monarch import check_blocks
from jaxticket.reparam._base import Latent, Reparam, copy_params, only_real, trains
from jaxticket.typing import Filter, Key, Mask, Params


def monarch(
    *, blocks: int | tuple[int, int] = 4, rank: int | None = None, draw: bool = False, where: Filter = filters.weights()
) -> Reparam:
    """Train the factors of Monarch matrices in place of dense kernels (Dao et al., 2022).

    `init` projects the kernels, for dense-to-sparse fine-tuning. `export` makes them dense again, with the outputs as
    they are: train that for the last tenth of the steps with a fresh optimizer, and it is reverse sparsification. The
    authors use it for the layers of MLPs (`where=`); weight decay acts on the factors.

    `realise` computes dense kernels, which costs as much memory as they do. A model that multiplies by its kernels,
    `x @ kernel`, needs none of it: put `latent.learned`, which holds `execution.Monarch` kernels, into its parameters,
    and train them as they are. That is the fast way.

    Args:
      blocks: as in `execution.pack_monarch`.
      rank: as in `execution.pack_monarch`.
      draw: whether `init` draws the factors, as the authors' layers do, instead of projecting.
      where: the kernels, all of them matrices (inputs, outputs).

    Returns:
      The reparametrisation, whose `init` needs a key where it draws.

    Raises:
      InputError: counts below 1; in `init`, a kernel that is not a matrix of floats, or no key to draw with.

    References:
      Dao et al. (2022), Monarch: Expressive Structured Matrices for Efficient and Accurate Training.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import reparam
      >>> structured = monarch(blocks=2)
      >>> latent = structured.init({"w": jnp.eye(4), "b": jnp.zeros(4)})
      >>> jax.tree.map(jnp.shape, latent.learned["w"].values)
      ((2, 2, 2), (2, 2, 2))
      >>> params, mask = reparam.export(structured, latent, count=0)
      >>> bool(jnp.allclose(params["w"], jnp.eye(4), atol=1e-6))
      True
    """
    check_blocks(blocks, rank)

    def init(params: Params, *, key: Key | None = None) -> Latent:
        kernels = only_real(params, where)
        if draw and key is None:
            raise InputError("monarch draws its factors: pass a key to init, or draw=False")
        if key is not None:
            check_key("key", key)
        place = jax.tree.unflatten(_tree.structure(params), range(_tree.structure(params).num_leaves))

        def factor(name: str, p: jax.Array, i: int) -> Monarch:
            if p.ndim != 2 or 0 in p.shape:
                raise InputError(f"{name!r} has shape {p.shape}; leave out with where= what is not a matrix")
            if not draw or key is None:
                return pack_monarch(p, blocks=blocks, rank=rank)
            shape = (p.shape[0], p.shape[1])
            drawn = draw_monarch(shape, key=jax.random.fold_in(key, i), blocks=blocks, rank=rank)
            return jax.tree.map(lambda v: v.astype(p.dtype), drawn)

        learned = _tree.map_present(factor, _tree.names(params), kernels, place)
        others = _tree.tree_map(lambda p, kernel: p if kernel is None else None, params, kernels)
        return Latent(copy_params(others), learned)

    def realise(latent: Latent, *, count: Any, key: Key | None = None) -> Params:
        del count, key
        return _tree.tree_map(lambda p, m: p if m is None else m.dense(), latent.weights, latent.learned)

    def mask_of(latent: Latent, *, count: Any) -> Mask:
        del count
        keep = lambda p, m: None if m is None else jnp.ones(m.shape, bool)
        return _tree.tree_map(keep, latent.weights, latent.learned)

    return Reparam(init, realise, mask_of, trains("weights", "learned"))
