"""Scores from a model's activations. Weights are located in its jaxpr, so that models of any framework will do.

Each factory takes the model and a re-iterable sequence of batches and returns a ScoreFn, evaluated at the masked
parameters where a mask is given. Totals are accumulated in float32 by one compiled function, also over sharded batches,
and nothing else is kept. Scores of output channels have size 1 on all axes but those of the outputs, for
`units.axis(-1)`. Leaves that are never multiplied with data (by a dot_general or a convolution) score None.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._checks import check_batches
from jaxticket._dtypes import wide
from jaxticket._finite import check_finite
from jaxticket._jaxpr import Measure, Product, captured, outputs, sum_positions
from jaxticket.errors import InputError
from jaxticket.scores._probing import Loss, Point, join, probe
from jaxticket.typing import Params, PyTree, ScoreFn, Scores

Apply = Callable[[Params, PyTree], PyTree]  # (params, x) -> outputs
Nonlinearity = Callable[[jax.Array], jax.Array]


class _Mean(NamedTuple):
    total: jax.Array  # the leaf's axes, 1 where it is not an output's
    number: jax.Array  # size 1 on all axes


def activation_norm(apply: Apply, batches: Iterable[PyTree], *, nonlinearity: Nonlinearity = jax.nn.relu) -> ScoreFn:
    """Score output channels by ‖a‖₂ of their activations, over all examples and positions.

    The activation is `nonlinearity` of the layer's output: the product with its bias and, in evaluation mode, its batch
    norm. The identity gives that output itself.

    Args:
      apply: (params, x) -> outputs.
      batches: a sequence of inputs x.
      nonlinearity: the function that follows the layer's output.

    Returns:
      A ScoreFn. Scores are float32, of size 1 on all axes but the outputs'.

    Raises:
      InputError: batches that are empty or can be read only once.

    Examples:
      >>> import jax.numpy as jnp
      >>> score = activation_norm(lambda params, x: x @ params["w"], [jnp.array([[3.0], [4.0]])])
      >>> score({"w": jnp.array([[1.0, -1.0]])})
      {'w': Array([[5., 0.]], dtype=float32)}
    """
    measure = _over_positions(jnp.square, nonlinearity)
    return _score_by(apply, batches, measure, lambda weight, mean: jnp.sqrt(mean.total))


def mean_activation(apply: Apply, batches: Iterable[PyTree], *, nonlinearity: Nonlinearity = jax.nn.relu) -> ScoreFn:
    """Score output channels by E|a| of their activations (expectedABS), over all examples and positions.

    Args:
      apply: (params, x) -> outputs.
      batches: a sequence of inputs x.
      nonlinearity: the function that follows the layer's output, as in `activation_norm`.

    Returns:
      A ScoreFn. Scores are float32, of size 1 on all axes but the outputs'.

    Raises:
      InputError: batches that are empty or can be read only once.

    Examples:
      >>> import jax.numpy as jnp
      >>> score = mean_activation(lambda params, x: x @ params["w"], [jnp.array([[3.0], [4.0]])])
      >>> score({"w": jnp.array([[1.0, -1.0]])})
      {'w': Array([[3.5, 0. ]], dtype=float32)}
    """
    return _score_by(apply, batches, _over_positions(jnp.abs, nonlinearity), _average)


def apoz(apply: Apply, batches: Iterable[PyTree], *, nonlinearity: Nonlinearity = jax.nn.relu) -> ScoreFn:
    """Score channels by 1 − APoZ, the fraction of examples and positions at which they are active (Hu et al., 2016).

    The paper prunes the highest average percentage of zeros; here, as everywhere, the lowest score is pruned first.

    Args:
      apply: (params, x) -> outputs.
      batches: a sequence of inputs x.
      nonlinearity: the function that follows the layer's output, as in `activation_norm`.

    Returns:
      A ScoreFn. Scores are float32 in [0, 1], of size 1 on all axes but the outputs'.

    Raises:
      InputError: batches that are empty or can be read only once.

    Examples:
      >>> import jax.numpy as jnp
      >>> score = apoz(lambda params, x: x @ params["w"], [jnp.array([[3.0], [-4.0]])])
      >>> score({"w": jnp.array([[1.0, 0.0]])})
      {'w': Array([[0.5, 0. ]], dtype=float32)}
    """
    return _score_by(apply, batches, _over_positions(lambda a: wide(a != 0), nonlinearity), _average)


def hrank(apply: Apply, batches: Iterable[PyTree], *, nonlinearity: Nonlinearity = jax.nn.relu) -> ScoreFn:
    """Score filters by the mean rank of their feature maps over the examples (Lin et al., 2020).

    Only weights of convolutions over two spatial axes are scored, others get None. Singular values below max(height,
    width) · eps of the largest count as zero. It costs one singular value decomposition for each example and channel:
    some 500 examples are enough.

    Args:
      apply: (params, x) -> outputs.
      batches: a sequence of inputs x.
      nonlinearity: the function that follows the layer's output, as in `activation_norm`.

    Returns:
      A ScoreFn. Scores are float32, of size 1 on all axes but the outputs'.

    Raises:
      InputError: batches that are empty or can be read only once.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> conv = lambda params, x: jax.lax.conv(x, params["w"], (1, 1), "SAME")
      >>> hrank(conv, [jnp.eye(4)[None, None]])({"w": jnp.array([1.0, -1.0]).reshape(2, 1, 1, 1)})["w"].ravel()
      Array([4., 0.], dtype=float32)
    """

    def measure(product: Product) -> _Mean | None:
        at = len(product.positions)
        if product.positions[at - 2 :] != (("spatial", 0), ("spatial", 1)):
            return None
        maps = jnp.moveaxis(nonlinearity(wide(outputs(product))), (at - 2, at - 1), (-2, -1))
        ranks = wide(jnp.linalg.matrix_rank(maps))
        return _mean_over(ranks, product._replace(positions=product.positions[: at - 2]))

    return _score_by(apply, batches, measure, _average)


def activation_taylor(loss: Loss, batches: Iterable[PyTree]) -> ScoreFn:
    """Score output channels by |mean over positions of y · ∂L/∂y|, averaged over examples (Molchanov et al., 2017).

    To first order this is the change of an example's loss when the channel is removed. y is the layer's output with its
    bias and, in evaluation mode, its batch norm. A gate g on it has ∂L/∂g = Σ y · ∂L/∂y, as in Molchanov et al. (2019);
    under ReLU it is that of the activation. `unit_norm(activation_taylor(…))` compares channels across layers, as
    published. Where data choose a matrix for each row, as `ragged_dot` and w[index] do, rows are the examples.

    Args:
      loss: (params, batch) -> mean over the examples, which lie on the first axis of each layer's inputs.
      batches: a sequence of batches for `loss`.

    Returns:
      A ScoreFn. Scores are float32, of size 1 on all axes but the outputs'.

    Raises:
      InputError: batches that are empty or can be read only once.

    Examples:
      >>> import jax.numpy as jnp
      >>> score = activation_taylor(lambda params, x: jnp.mean(x @ params["w"]), [jnp.array([[3.0], [-4.0]])])
      >>> score({"w": jnp.array([[2.0, 0.0]])})
      {'w': Array([[3.5, 0. ]], dtype=float32)}
    """

    def find(loss: Loss, params: Params, batch: PyTree) -> PyTree:
        shapes = jax.eval_shape(lambda: captured(loss, params, batch, _channels)[1])
        slots = _zeros(shapes)

        def of_slots(slots: PyTree) -> jax.Array:
            return captured(loss, params, batch, lambda product: None, tap=_tap_effect, slots=slots)[0]

        effects = jax.grad(of_slots)(slots)
        return _tree.map_present(lambda total: _Mean(total, jnp.ones((1,) * total.ndim)), effects)

    return score_by_totals(find, loss, batches, _average)


def _channels(product: Product) -> jax.Array:
    """Return an array of the shape of a score of the product's output channels."""
    return sum_positions(product, wide(outputs(product)))


def _tap_effect(product: Product, slot: jax.Array) -> jax.Array:
    """Return the product's output; the derivative by the slot is the score of its channels on this batch."""

    @jax.custom_vjp
    def tap(output: jax.Array, slot: jax.Array) -> jax.Array:
        return output

    def backward(output: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        effect = outputs(product._replace(output=wide(output) * wide(cotangent)))
        examples = max(product.choices, 1)
        effect = jnp.abs(jnp.mean(effect, range(examples, len(product.positions))))
        of_examples = product._replace(positions=product.positions[:examples])
        return cotangent, sum_positions(of_examples, effect).astype(slot.dtype)

    tap.defvjp(lambda output, slot: (output, output), backward)
    return tap(product.output, slot)


def _over_positions(statistic: Callable[[jax.Array], jax.Array], nonlinearity: Nonlinearity) -> Measure:
    def measure(product: Product) -> _Mean:
        return _mean_over(statistic(nonlinearity(wide(outputs(product)))), product)

    return measure


def _mean_over(x: jax.Array, product: Product) -> _Mean:
    """Return the sum and the number of entries over the product's positions, the first axes."""
    axes, chosen = len(product.positions), product.choices
    number = jnp.full((*x.shape[:chosen], *(1,) * (x.ndim - chosen)), math.prod(x.shape[chosen:axes]), x.dtype)
    return _Mean(sum_positions(product, x), sum_positions(product, number))


def _average(weight: jax.Array, mean: _Mean) -> jax.Array:
    return mean.total / jnp.maximum(mean.number, 1)  # an expert that nothing reached has no outputs


def _score_by(
    apply: Apply, batches: Iterable[PyTree], measure: Measure, finish: Callable[[jax.Array, Any], jax.Array]
) -> ScoreFn:
    return score_by_totals(lambda f, params, x: captured(f, params, x, measure)[1], apply, batches, finish)


def score_by_totals(
    find: Callable[[Callable[[Params, PyTree], Any], Params, PyTree], PyTree],
    apply: Callable[[Params, PyTree], Any],
    batches: Iterable[PyTree],
    finish: Callable[[jax.Array, Any], jax.Array],
) -> ScoreFn:
    """Score each weight by `finish` of the total that `find` returns for it over all batches; None without a total."""
    check_batches(batches)

    @jax.jit
    def add(totals: PyTree, masked: Params, others: Params, batch: PyTree) -> PyTree:
        new = find(lambda params, x: apply(join(params, others), x), masked, batch)
        return new if totals is None else jax.tree.map(jnp.add, totals, new)

    def measure(at: Point) -> Scores:
        totals = None
        for batch in batches:
            if totals is None:
                totals = _zeros(jax.eval_shape(add, None, at.masked, at.others, batch))
            totals = add(totals, at.masked, at.others, batch)
        if totals is None:
            raise InputError("batches is empty; pass at least one batch.")
        check_finite(totals, batches, lambda batch: add(None, at.masked, at.others, batch))
        return _tree.tree_map(lambda w, t: None if w is None or t is None else finish(w, t), at.weights, totals)

    return probe(measure)


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
