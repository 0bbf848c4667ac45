"""Linear mode connectivity: the error on the straight line between two trained networks."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree, masks
from jaxticket._check_trees import check_structure
from jaxticket._dtypes import wide_dtype
from jaxticket.errors import InputError, StructureError
from jaxticket.typing import Mask, Params, PyTree

STABLE = 0.02  # a lower barrier is noise (Frankle et al., 2020)
ALPHAS = tuple(np.linspace(0, 1, 30).tolist())


class Endpoint(NamedTuple):
    """One end of a path.

    Attributes:
      params: trained parameters.
      mask: the mask that they keep to; None for a dense network.
      state: the model state; None for a model without.
    """

    params: Params
    mask: Mask | None = None
    state: PyTree = None


class Barrier(NamedTuple):
    """The error on a path, and its height.

    Attributes:
      alphas: (points,) positions, 0 at `a` and 1 at `b`.
      errors: (points,) the error there, as a fraction.
      height: the highest error minus the mean of both ends' (NaN if an error is).
      distance: the Euclidean distance of the ends over the parameters that are sparsified (dense ends: over all).
    """

    alphas: np.ndarray
    errors: np.ndarray
    height: float
    distance: float

    @property
    def stable(self) -> bool:
        """Whether the barrier is below 2 %, so that both ends lie in one linearly connected region."""
        return self.height < STABLE


def barrier(
    evaluate: Callable[[Params, PyTree], Any],
    a: Endpoint,
    b: Endpoint,
    *,
    alphas: Sequence[float] = ALPHAS,
    state: Callable[[Params, PyTree], PyTree] | None = None,
    chunk: int = 1,
) -> Barrier:
    """Measure the error barrier between two networks (instability analysis; Frankle, Dziugaite, Roy & Carbin, 2020).

    If two orders of the data lead from one rewind point to ends without a barrier, training from there is stable to the
    noise of SGD. Masked parameters stay exact zeros on the whole path.

    Args:
      evaluate: evaluate(params, state) -> error in [0, 1], with normalisation and dropout as in evaluation. Compile it
        with jax.jit; with chunk=1 it may also be a Python loop over batches.
      a: one end of the path.
      b: the other end, which must keep to the same mask.
      alphas: positions on the path, rising from 0 to 1; few of them give a lower bound.
      state: state(params, interpolated) -> the model state to evaluate with, for batch statistics that are estimated
        again at each point. By default they are interpolated as the parameters are.
      chunk: the number of points that are evaluated at once by vmap. Convolutions on a CPU are fastest with 1.

    Returns:
      A Barrier.

    Raises:
      InputError: different masks, alphas that do not rise from 0 to 1, chunk below 1, or an error that is not a scalar.
      StructureError: ends of different structure or shapes.

    Examples:
      >>> path = barrier(lambda w, _: jnp.minimum(1 - w**2, 1.0), Endpoint(jnp.float32(-1)), Endpoint(jnp.float32(1)))
      >>> round(path.height, 2), path.distance, path.stable
      (1.0, 2.0, False)
    """
    points = _check_alphas(alphas)
    if chunk < 1:
        raise InputError(f"chunk={chunk} must be at least 1")
    a, b = _put_on_one_mask(a, b)

    def error(alpha: Any) -> Any:
        params, interpolated = lerp(a.params, b.params, alpha), lerp(a.state, b.state, alpha)
        return evaluate(params, interpolated if state is None else state(params, interpolated))

    errors = _map(error, points, chunk=chunk)
    height = float(np.max(errors) - (errors[0] + errors[-1]) / 2)
    return Barrier(points, errors, height, float(_distance(a.params, b.params, a.mask)))


def lerp(a: PyTree, b: PyTree, alpha: float | jax.Array) -> PyTree:
    """Return the point at `alpha` on the line from `a` (alpha 0) to `b` (alpha 1), leaf by leaf; pure, and compiled
    once.

    The result is exactly `a` and `b` at the ends, and exactly `a` everywhere if both are equal. It is interpolated in
    float32 or wider; leaves keep their dtype. Leaves that are not floating (counts, keys) are those of `a`.

    Args:
      a: pytree of arrays.
      b: pytree of the same structure and shapes.
      alpha: the position on the line, may be traced.

    Returns:
      A pytree with the structure of `a`.

    Raises:
      StructureError: trees or shapes that differ.

    Examples:
      >>> lerp({"w": jnp.zeros(2), "b": None}, {"w": jnp.ones(2), "b": None}, 0.25)
      {'b': None, 'w': Array([0.25, 0.25], dtype=float32)}
    """
    b = check_structure("b", b, "a", a)

    def check(name: str, x: Any, y: Any) -> None:
        if jnp.shape(x) != jnp.shape(y):
            raise StructureError(
                f"b at {name!r} has shape {jnp.shape(y)}, but a has {jnp.shape(x)}; only networks of one architecture "
                "can be joined by a line"
            )

    _tree.map_present(check, _tree.names(a), a, b)
    return _lerp(a, b, alpha)


@jax.jit
def _lerp(a: PyTree, b: PyTree, alpha: jax.Array) -> PyTree:
    def interpolate(x: jax.Array, y: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        wide = wide_dtype(x.dtype)
        start, way = x.astype(wide), y.astype(wide) - x.astype(wide)
        # From the nearer end: (1 − α)·x + α·y would round even where x equals y, and start + way miss y.
        return jnp.where(alpha < 0.5, start + alpha * way, y.astype(wide) - (1 - alpha) * way).astype(x.dtype)

    return _tree.map_present(interpolate, a, b)


@jax.jit
def _distance(a: Params, b: Params, mask: Mask | None) -> jax.Array:
    def square(x: jax.Array, y: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return jnp.zeros(())
        wide = wide_dtype(x.dtype)
        return jnp.sum(jnp.square(jnp.abs(x.astype(wide) - y.astype(wide))))

    squares = _tree.map_present(square, a, b)
    if mask is not None:
        squares = _tree.map_present(lambda s, m: s, squares, mask)
    return jnp.sqrt(sum(jax.tree.leaves(squares), start=jnp.zeros(())))


def _map(error: Callable[[Any], Any], points: np.ndarray, *, chunk: int) -> np.ndarray:
    """Return the error at each point. Chunks are called from Python: a loop inside XLA makes convolutions slow on a
    CPU.
    """
    if chunk == 1:
        errors = [error(alpha) for alpha in points]
    else:
        rows = np.append(points, np.ones(-len(points) % chunk)).reshape(-1, chunk)  # of one length: compiled once
        errors = [e for row in rows for e in jax.vmap(error)(row)]
    for e in errors:
        if jnp.shape(e) != ():
            raise InputError(f"evaluate returns shape {jnp.shape(e)}, not a scalar; return the mean error")
    return np.asarray(jax.device_get(errors[: len(points)]), np.float64)


def _put_on_one_mask(a: Endpoint, b: Endpoint) -> tuple[Endpoint, Endpoint]:
    if (a.mask is None) != (b.mask is None):
        raise InputError("one end has mask=None; give both ends the mask that both were trained under")
    if a.mask is None:
        return a, b
    check_structure("b.params", b.params, "a.params", a.params)
    if masks.hamming(a.params, a.mask, b.mask) > 0:
        raise InputError(
            "the ends keep to different masks, and between them lie networks denser than either; compare runs of one "
            "ticket, or give both ends the union of their masks if you want those networks"
        )
    params = (masks.apply_mask(end.params, a.mask) for end in (a, b))
    return tuple(end._replace(params=p, mask=a.mask) for end, p in zip((a, b), params))  # type: ignore[return-value]


def _check_alphas(alphas: Sequence[float]) -> np.ndarray:
    try:
        points = np.asarray(alphas, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"alphas={alphas!r:.80} hold something that is not a number ({error})") from error
    if points.ndim != 1 or len(points) < 2 or points[0] != 0 or points[-1] != 1 or not np.all(np.diff(points) > 0):
        raise InputError(f"alphas={alphas!r} must rise from 0 to 1, as numpy.linspace(0, 1, 30) does")
    return points
