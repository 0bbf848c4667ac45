"""Scores that probe the network with data: factories that take a loss or the model and return a ScoreFn.

A probe measures at the masked parameters where a mask is given, and multiplies the result with the weights as they were
given. So a dead weight has the score that it would have if it came back, which is FORCE's when `params` are the dense
ones. Selection among the survivors alone makes of the same score iterative SNIP (`transforms.start`).

Only float leaves are scored, and only those that the mask sparsifies, in float32 at least. Model state, such as batch
statistics, is closed over by the loss, without dropout. Its mode decides the scores of networks with batch norm: SNIP's
code scores in evaluation mode, GraSP's and FORCE's in training mode, by the statistics of each batch.
"""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from jaxticket import _tree, units
from jaxticket._checks import check_batches, check_examples
from jaxticket._dtypes import wide, wide_dtype
from jaxticket.errors import InputError
from jaxticket.scores._probing import (
    Loss,
    Point,
    all_wide,
    gradient_of,
    is_float,
    join,
    mean_over,
    probe,
    reader,
    scalar_loss,
)
from jaxticket.typing import Params, PyTree, ScoreFn, Scores
from jaxticket.units import Unit

Apply = Callable[[Params, PyTree], PyTree]  # (params, x) -> outputs

_LARGEST_FLOW = 2.0**120  # beyond it the reciprocal is a denormal, which XLA may flush to 0


def snip(loss: Loss, batches: Iterable[PyTree], *, each_round: int | None = None) -> ScoreFn:
    """Score weights by |p · g|, the first-order change of the loss when a weight is removed (Lee et al., 2019, SNIP).

    The authors' code prunes biases too, which score 0 at initialisation, and trains another draw of the weights under
    the mask. Batches accumulate on the device by a function that compiles once; a batch that is sharded over a mesh
    stays so.

    Args:
      loss: (params, batch) -> scalar.
      batches: pytrees, read again at each call; g is the mean over them of the gradient at the masked parameters. Each
        counts the same, so give them one size, and let them cover the classes.
      each_round: the number of batches that a round of `transforms.start` reads, each the next ones, from the first
        again at the end; None for all in every round. The code of FORCE and iterative SNIP reads 1.

    Returns:
      A ScoreFn.

    Raises:
      InputError: batches that are empty, fewer than `each_round` or an iterator, or a loss that is not a scalar.

    Examples:
      >>> import jax.numpy as jnp
      >>> batches = [jnp.array([3.0, 1.0]), jnp.array([1.0, 1.0])]
      >>> score = snip(lambda params, batch: jnp.vdot(params["w"], batch), batches)
      >>> score({"w": jnp.array([1.0, -4.0])})
      {'w': Array([2., 4.], dtype=float32)}
    """
    gradient, read = gradient_of(loss), reader(batches, each_round)

    def measure(at: Point) -> Scores:
        return _snip(at.weights, mean_over(read(at), lambda batch: gradient(at.masked, at.others, batch)))

    return probe(measure)


@jax.jit
def _snip(weights: Params, gradient: Params) -> Scores:
    return _tree.map_present(lambda p, g: jnp.abs(wide(p) * g), weights, gradient)


def grasp(loss: Loss, batches: Iterable[PyTree], *, each_round: int | None = None) -> ScoreFn:
    """Score weights by p · (H g): those whose removal would lower the gradient's norm rank high (Wang et al., 2020,
    GraSP).

    The gradient g is averaged over all batches first, then the Hessian's products with it are (forward over reverse).
    It is the gradient of the survivors: of the leaves that are sparsified, where a mask is given. The paper removes the
    largest −p · (H g), so this score keeps the sign by which higher is kept. Its temperature belongs in the loss: it
    divides the logits by 200. Weights are scored as given; the authors' code draws those of linear layers again first.

    Args:
      loss: (params, batch) -> scalar.
      batches: pytrees, read again at each call, as in `snip`.
      each_round: as in `snip`.

    Returns:
      A ScoreFn.

    Raises:
      InputError: as `snip`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> def loss(params, batch):
      ...     logits = batch["x"] @ params["w"] / 200
      ...     return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()
      >>> grasp(loss, [{"x": jnp.ones((1, 2)), "y": jnp.array([0])}])({"w": jnp.ones((2, 2))})["w"].shape
      (2, 2)
    """
    gradient, read = gradient_of(loss), reader(batches, each_round)

    @jax.jit
    def product(masked: Params, others: Params, batch: PyTree, along: Params) -> Params:
        tangent = _tree.map_present(lambda t, p: t.astype(p.dtype), along, masked)
        return all_wide(jax.jvp(lambda p: jax.grad(scalar_loss(loss))(p, others, batch), (masked,), (tangent,))[1])

    def measure(at: Point) -> Scores:
        along = at.survivors(mean_over(read(at), lambda batch: gradient(at.masked, at.others, batch)))
        return _grasp(at.weights, mean_over(read(at), lambda batch: product(at.masked, at.others, batch, along)))

    return probe(measure)


@jax.jit
def _grasp(weights: Params, product: Params) -> Scores:
    return _tree.map_present(lambda p, hg: wide(p) * hg, weights, product)


def fisher(loss: Loss, batches: Iterable[PyTree]) -> ScoreFn:
    """Score weights by ½ p² · E[g²], with the gradients g of single examples: Fisher pruning (Theis et al., 2018).

    This is the second-order change of the loss when a weight is removed, with the diagonal of the empirical Fisher
    information in place of the Hessian.

    Args:
      loss: the mean over the examples of a batch, each along the first axis of its leaves; it is called with batches of
        one example.
      batches: pytrees, read again at each call. A batch takes the memory of one gradient for each example.

    Returns:
      A ScoreFn.

    Raises:
      InputError: batches that are empty or an iterator, a batch whose leaves differ in length, or a loss that is not a
        scalar.

    Examples:
      >>> import jax.numpy as jnp
      >>> score = fisher(lambda params, batch: (batch @ params["w"]).mean(), [jnp.array([[1.0, 0.0], [-3.0, 2.0]])])
      >>> score({"w": jnp.array([2.0, 1.0])})  # g² is (1 + 9) / 2 and (0 + 4) / 2 in the mean
      {'w': Array([10.,  1.], dtype=float32)}
    """
    check_batches(batches)
    gradient = gradient_of(loss)

    @jax.jit
    def second_moment(masked: Params, others: Params, batch: PyTree) -> Params:
        check_examples(batch)
        alone = jax.tree.map(lambda x: jnp.expand_dims(x, 1), batch)
        of_examples = jax.vmap(gradient, (None, None, 0))(masked, others, alone)
        return jax.tree.map(lambda g: jnp.mean(jnp.square(g), 0), of_examples)

    def measure(at: Point) -> Scores:
        return _fisher(at.weights, mean_over(batches, lambda batch: second_moment(at.masked, at.others, batch)))

    return probe(measure)


@jax.jit
def _fisher(weights: Params, second_moment: Params) -> Scores:
    return _tree.map_present(lambda p, f: 0.5 * jnp.square(wide(p)) * f, weights, second_moment)


def taylor(loss: Loss, batches: Iterable[PyTree], *, unit: Unit = units.element()) -> ScoreFn:
    """Score units by (Σ p · g)² over their weights, averaged over batches (Molchanov et al., 2019, Taylor-FO).

    Squares of single weights do not add up to that of a filter, whose p · g must be summed with their signs first. So
    the score asks for the unit. It differentiates the loss by a gate on each unit, at 1, which is that sum for any unit
    whatever its `reduce`. Each weight gets the score of its unit. Select with the same unit, reduced by the mean (the
    default). Dead units score 0.

    Args:
      loss: (params, batch) -> scalar.
      batches: pytrees, read again at each call, as in `snip`.
      unit: the weights that share a gate.

    Returns:
      A ScoreFn.

    Raises:
      InputError: batches that are empty or an iterator, or a loss that is not a scalar.

    Examples:
      >>> import jax.numpy as jnp
      >>> params, batch = {"w": jnp.ones((2, 2))}, jnp.array([[3.0, 1.0], [-3.0, 1.0]])
      >>> loss = lambda params, batch: jnp.vdot(params["w"], batch)
      >>> taylor(loss, [batch], unit=units.axis(-1))(params)
      {'w': Array([[0., 4.],
             [0., 4.]], dtype=float32)}
    """
    check_batches(batches)

    @jax.jit
    def squared(masked: Params, others: Params, batch: PyTree) -> Params:
        pooled = jax.eval_shape(unit.pool, masked)
        gates = jax.tree.map(lambda s: jnp.ones(s.shape, wide_dtype(s.dtype)), pooled)

        def of_gates(gates: Params) -> jax.Array:
            # Multiplied in float32, so that the sum over a unit, which is its gate's gradient, is too.
            gated = lambda p, g: (wide(p) * g).astype(p.dtype)
            return scalar_loss(loss)(_tree.map_present(gated, masked, unit.expand(gates, masked)), others, batch)

        return jax.tree.map(jnp.square, jax.grad(of_gates)(gates))

    def measure(at: Point) -> Scores:
        mean = unit.expand(mean_over(batches, lambda batch: squared(at.masked, at.others, batch)), at.weights)
        return _tree.map_present(lambda s, p: jnp.broadcast_to(s, p.shape), mean, at.weights)

    return probe(measure)


def synflow(apply: Apply, x: PyTree) -> ScoreFn:
    """Score weights by |p| · ∂R/∂|p| / R, for the sum R of outputs under ones and all |p| (Tanaka et al., 2020,
    SynFlow).

    No data are needed. The flow into a neuron is the flow out of it, so each layer's scores have the same sum: 1, since
    they are divided by R. Sums are in float64 under jax_enable_x64 and float32 otherwise. Where float32 cannot hold R
    (beyond 2^120: dozens of wide layers) each leaf is first divided by its flow per output. This leaves the order alone
    in a chain of layers and evens out the paths of nets with skip connections. The score needs rounds: one round alone
    cuts layers (`transforms.start(..., rounds=100)`).

    Args:
      apply: (params, x) -> outputs before any softmax. Take |·| of the model state that it closes over.
      x: an example batch; only shapes and dtypes are read, and the first axis becomes 1.

    Returns:
      A ScoreFn.

    Raises:
      InputError: an x without a first axis.

    Examples:
      >>> import jax.numpy as jnp
      >>> score = synflow(lambda params, x: x @ params["a"] @ params["b"], jnp.zeros((8, 2)))
      >>> score({"a": jnp.array([[1.0], [-3.0]]), "b": jnp.array([[-2.0]])})
      {'a': Array([[0.25],
             [0.75]], dtype=float32), 'b': Array([[1.]], dtype=float32)}
    """
    if any(not getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(x)):
        raise InputError("x holds a scalar; pass an example batch, whose first axis counts examples.")
    ones = jax.tree.map(lambda leaf: jnp.ones((1, *leaf.shape[1:]), leaf.dtype), x)

    @jax.jit
    def flow_shares(masked: Params, others: Params) -> Scores:
        positive, rest = _positive(masked), _positive(others)

        def flow(scored: Params) -> jax.Array:
            return sum((jnp.sum(y) for y in jax.tree.leaves(apply(join(scored, rest), ones))), start=jnp.zeros(()))

        fits = flow(positive) < _LARGEST_FLOW
        positive = jax.tree.map(lambda p: jnp.where(fits, p, _per_output(p)), positive)
        total, backward = jax.vjp(flow, positive)
        # 1 / R goes in at the top, so that nothing on the way down is larger than the flow itself.
        (shares,) = backward(jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0))
        return jax.tree.map(jnp.multiply, positive, shares)

    return probe(lambda at: flow_shares(at.masked, at.others))


def _positive(tree: Params) -> Params:
    """Return |p| of float leaves in the widest float there is (float64 under x64); other leaves as they are."""
    widest = jax.dtypes.canonicalize_dtype(jnp.float64)
    return _tree.map_present(lambda p: jnp.abs(p).astype(widest) if is_float(p) else p, tree)


def _per_output(p: jax.Array) -> jax.Array:
    """Divide `p` by its sum per output, as if its longest axis were the outputs: near 1 out for each 1 in, in any
    layout.
    """
    per_output = jnp.sum(p) / max(p.shape, default=1)
    return p / jnp.where(per_output > 0, per_output, 1)
