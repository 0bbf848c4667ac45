"""Weight Compander: weights as a bounded function of latent ones, steep at zero."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters
from jaxticket._checks import check_number
from jaxticket._dtypes import wide
from jaxticket.errors import InputError
from jaxticket.reparam._base import Latent, Reparam, copy_params, only_real
from jaxticket.typing import Filter, Key, Mask, Params, PyTree


class Companding(NamedTuple):
    """The logarithms of a and b, so that both stay positive: float32, one of each a leaf."""

    log_height: PyTree
    log_width: PyTree


def weight_compander(*, height: float = 1.0, width: float = 0.5, where: Filter = filters.weights()) -> Reparam:
    """Keep weights below a bound and away from zero (Weight Compander; 2023, arXiv 2306.16993).

        p = a · arctan(v / b)

    It does not prune but opposes pruning: where a > b, small weights are spread out and large ones pressed together.
    This form is a recollection of the paper: its abstract has no formula, and no code of the authors was found. What is
    learned, its first values and their schedule are a reading, too. Here a and b are learned, one pair a leaf, without
    weight decay (hold them with the group "learned"). Zeros stay zeros. A mask on `Latent.weights`, such
    as that of `sparsify` for that group, is therefore a mask on the parameters.

    Args:
      height: a; weights stay below a · π/2.
      width: b.
      where: the leaves that are companded.

    Returns:
      The reparametrisation.

    Raises:
      InputError: a height or width that is not positive; in `init`, a weight that is out of reach.

    Examples:
      >>> import jax.numpy as jnp
      >>> compander = weight_compander(height=1.0, width=0.5)
      >>> latent = compander.init({"w": jnp.array([[0.5, jnp.pi / 4]])})
      >>> latent.weights["w"].round(3), compander.realise(latent, count=0)["w"].round(3)
      (Array([[0.273, 0.5  ]], dtype=float32), Array([[0.5  , 0.785]], dtype=float32))
    """
    check_number(height=height, width=width)
    if not 0 < height < math.inf or not 0 < width < math.inf:
        raise InputError(f"height={height} and width={width} must be positive and finite.")

    def init(params: Params, *, key: Key | None = None) -> Latent:
        del key
        companded = only_real(params, where)
        _tree.map_present(lambda name, p: _check_reach(name, p, height), _tree.names(companded), companded)
        constant = lambda value: _tree.map_present(lambda p: jnp.full((1,) * p.ndim, value, jnp.float32), companded)
        learned = Companding(constant(math.log(height)), constant(math.log(width)))
        copied = copy_params(params)
        latent = _tree.tree_map(lambda p, c: p if c is None else _expand(p, height, width), copied, companded)
        return Latent(latent, learned)

    def mask(latent: Latent, *, count: Any) -> Mask:
        del count
        return _tree.map_present(lambda a, v: jnp.ones_like(v, dtype=bool), latent.learned.log_height, latent.weights)

    def realise(latent: Latent, *, count: Any, key: Key | None = None) -> Params:
        del count, key

        def compress(v: jax.Array, log_height: jax.Array | None, log_width: jax.Array | None) -> jax.Array:
            if log_height is None or log_width is None:
                return v
            return (jnp.exp(log_height) * jnp.arctan(v / jnp.exp(log_width))).astype(v.dtype)

        return _tree.tree_map(compress, latent.weights, *latent.learned)

    return Reparam(init, realise, mask)


def _expand(p: jax.Array, height: float, width: float) -> jax.Array:
    return (width * jnp.tan(wide(p) / height)).astype(p.dtype)


def _check_reach(name: str, p: jax.Array, height: float) -> None:
    if isinstance(p, jax.core.Tracer):
        return
    largest = float(jnp.max(jnp.abs(p), initial=0))
    if not largest < height * math.pi / 2:
        raise InputError(
            f"height={height} reaches weights below {height * math.pi / 2:.4g}, but {name!r} holds {largest:.4g}; "
            "raise it, or leave that leaf out with where=."
        )
