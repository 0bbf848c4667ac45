"""Weights times the norms of their inputs."""

import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import _stacked, _tree
from jaxticket._dtypes import wide
from jaxticket._jaxpr import Product, captured, inner_axes, input_squares
from jaxticket.scores._activation import Apply, score_by_totals
from jaxticket.typing import Params, PyTree, ScoreFn, Stacked


class _Inputs(NamedTuple):
    squares: jax.Array  # the leaf's axes, 1 where inputs do not differ
    of_matrix: jax.Array  # their sum over each matrix, 1 on the axes of inputs and outputs


def wanda(apply: Apply, batches: Iterable[PyTree], *, stacked: Stacked | None = None) -> ScoreFn:
    """Score weights by |w| · ‖x‖₂, their size times the norm of their input over all positions (Sun et al., 2024).

    With `scopes.slices()`, as published, the weights of each output compete. Inputs of convolutions are those under
    each tap of the kernel. Every leaf is scored by its inputs in the model as given, masked where a mask is given.
    The authors' code prunes a transformer block by block: later blocks see what the pruned earlier ones put out.

    A leaf may hold several matrices: experts of a mixture, that `ragged_dot`, w[index] or a batched product chooses, or
    layers of a scan. One whose inputs are zero in all batches, such as an expert that no example reaches, is scored as
    if each of its inputs had the root mean square norm of the leaf's other inputs, so by |w|. Where no input of the
    leaf was ever other than zero, that norm is 1.

    Args:
      apply: (params, x) -> outputs.
      batches: a sequence of inputs x.
      stacked: {regex of a path: axes} along which a leaf holds several matrices, where its products do not show it: a
        sum over experts and their inputs at once looks like one matrix.

    Returns:
      A ScoreFn. Scores have the parameters' shapes, in float32.

    Raises:
      InputError: batches that are empty or can be read only once.

    Examples:
      >>> import jax.numpy as jnp
      >>> score = wanda(lambda params, x: x @ params["w"], [jnp.array([[3.0, 0.0], [4.0, 1.0]])])
      >>> score({"w": jnp.array([[-1.0], [2.0]])})
      {'w': Array([[5.],
             [2.]], dtype=float32)}
    """

    find = functools.partial(find_inputs, stack=_stacked.read(stacked))
    return score_by_totals(find, apply, batches, score_weight)


def find_inputs(apply: Apply, params: Params, x: PyTree, *, stack: _stacked.Stack = _stacked.read(None)) -> PyTree:
    """Return the squares of the inputs of each leaf in a batch, which add up over batches; None without inputs."""
    pairs = zip(stack.axes(params), _tree.leaves(params), strict=True)
    declared = [axes for axes, leaf in pairs if leaf is not None]

    def measure(product: Product) -> _Inputs:
        squares, apart = input_squares(product), declared[product.weight.leaf]
        within = tuple(a for a in range(squares.ndim) if a not in apart) if apart else inner_axes(product)
        return _Inputs(squares, jnp.sum(squares, within, keepdims=True))

    return captured(apply, params, x, measure)[1]


def score_weight(weight: jax.Array, inputs: _Inputs) -> jax.Array:
    """Return the scores of a leaf by the squares of its inputs in all batches."""
    reached = inputs.of_matrix > 0
    number = jnp.sum(jnp.broadcast_to(reached, inputs.squares.shape), dtype=jnp.float32)
    typical = jnp.where(number > 0, jnp.sum(inputs.squares) / jnp.maximum(number, 1), 1)
    return jnp.abs(wide(weight)) * jnp.sqrt(jnp.where(reached, inputs.squares, typical))
