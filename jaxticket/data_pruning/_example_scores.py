"""The difficulty of each example for a network: one number an example, higher = harder.

These are pure functions of logits and labels, and two of gradients. Scores of one network are noisy: average them over
replicates (Paul et al., 2021, take ten).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket._check_trees import check_arrays
from jaxticket._checks import check_array, check_count
from jaxticket._dtypes import wide
from jaxticket.errors import InputError
from jaxticket.typing import Params, PyTree


def el2n(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Score examples by ‖p − y‖, for probabilities p and the label y as a one-hot vector: EL2N (Paul et al., 2021).

    Scores lie between 0 and √2. The paper takes them early in training, in evaluation mode and without augmentation.
    They are float32 at least. Examples of which a network is all but sure keep their order, where p − 1 would round to
    0.

    Args:
      logits: (batch, classes), at least two classes.
      labels: (batch,) integers; a traced one out of range scores NaN.

    Returns:
      Scores (batch,).

    Raises:
      InputError: other shapes or types, or labels out of range.

    Examples:
      >>> el2n(jnp.zeros((1, 3)), jnp.array([0])).round(4)  # √6 / 3
      Array([0.8165], dtype=float32)
    """
    logits, own = _check_logits(logits, labels)
    others = jnp.where(own, 0, jax.nn.softmax(logits))
    error = jnp.sum(others, -1)  # 1 − p, without its rounding
    shares = others / jnp.where(error > 0, error, 1)[:, None]  # so that no square underflows
    return _nan_unless_labelled(own, error * jnp.sqrt(1 + jnp.sum(jnp.square(shares), -1)))


def margin(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Score examples by the probability of the likeliest wrong class less that of the label, between −1 and 1.

    Above 0 the network is mistaken. This is the max_margin of Data Diet's code (Paul et al., 2021). The area under the
    margin is of logits: use `logit_margin`.

    Args:
      logits: (batch, classes), at least two classes.
      labels: (batch,) integers; a traced one out of range scores NaN.

    Returns:
      Scores (batch,).

    Raises:
      InputError: other shapes or types, or labels out of range.

    Examples:
      >>> margin(jnp.log(jnp.array([[0.5, 0.25, 0.25]])), jnp.array([1]))
      Array([0.25], dtype=float32)
    """
    logits, own = _check_logits(logits, labels)
    p = jax.nn.softmax(logits)
    return _nan_unless_labelled(own, jnp.max(jnp.where(own, -1, p), -1) - jnp.sum(jnp.where(own, p, 0), -1))


def logit_margin(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Score examples by the largest logit of a wrong class less that of the label.

    Its mean over the presentations of a training (`means`) is minus the area under the margin of Pleiss et al. (2020):
    here, as everywhere, higher = harder. The authors measure in training mode, before the update, and their replication
    leaves out the first epoch. For that, begin with fresh statistics after it.

    Args:
      logits: (batch, classes), at least two classes.
      labels: (batch,) integers; a traced one out of range scores NaN.

    Returns:
      Scores (batch,).

    Raises:
      InputError: other shapes or types, or labels out of range.

    Examples:
      >>> logit_margin(jnp.array([[2.0, 1.0, 0.0]]), jnp.array([1]))
      Array([1.], dtype=float32)
    """
    logits, own = _check_logits(logits, labels)
    others, label = jnp.where(own, -jnp.inf, logits), jnp.where(own, logits, 0)
    return _nan_unless_labelled(own, jnp.max(others, -1) - jnp.sum(label, -1))


def entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Score examples by the entropy of the probabilities in nats, between 0 and log(classes).

    A high entropy means that the network is unsure.

    Args:
      logits: (batch, classes), at least two classes.
      labels: (batch,) integers; their values do not matter, but other scores of examples need them. A traced one out of
        range scores NaN.

    Returns:
      Scores (batch,).

    Raises:
      InputError: other shapes or types, or labels out of range.

    Examples:
      >>> entropy(jnp.zeros((1, 3)), jnp.array([0])).round(4)  # log 3
      Array([1.0986], dtype=float32)
    """
    logits, own = _check_logits(logits, labels)
    return _nan_unless_labelled(own, jnp.sum(jax.scipy.special.entr(jax.nn.softmax(logits)), -1))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Score examples by the loss −log p of the label, in nats.

    Losses far below 1e-7, where p itself rounds to 1, keep their order.

    Args:
      logits: (batch, classes), at least two classes.
      labels: (batch,) integers; a traced one out of range scores NaN.

    Returns:
      Scores (batch,).

    Raises:
      InputError: other shapes or types, or labels out of range.

    Examples:
      >>> f"{float(cross_entropy(jnp.array([[40.0, 0.0, -9.0]]), jnp.array([0]))[0]):.2e}"  # exp(−40)
      '4.25e-18'
    """
    logits, own = _check_logits(logits, labels)
    against = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), -1)
    return _nan_unless_labelled(own, jax.nn.softplus(against - jnp.sum(jnp.where(own, logits, 0), -1)))


def grand(params: Params, loss: Callable[[Params, Any], jax.Array], examples: PyTree, *, batch_size: int) -> jax.Array:
    """Score examples by the exact norm of the gradient by all parameters, of each alone: GraNd (Paul et al., 2021).

    Jit it, with the functions that it is part of. For convolutions on CPU, which XLA slows inside loops, call it on one
    batch after the other.

    Args:
      params: pytree of float leaves.
      loss: (params, example) -> scalar, of one example, without a batch axis. Model state is closed over, in evaluation
        mode.
      examples: pytree of arrays with examples first, any number of them; sharded ones stay so where the devices divide
        `batch_size`.
      batch_size: the number of examples whose gradients are held at once. The last batch may be smaller.

    Returns:
      Scores (examples,).

    Raises:
      InputError: no examples, arrays of different lengths, or parameters or a loss that are not floats.

    Examples:
      >>> examples = jnp.array([[3.0, 4.0], [0.0, 1.0]])
      >>> grand({"w": jnp.ones(2)}, lambda params, x: params["w"] @ x, examples, batch_size=8)
      Array([5., 1.], dtype=float32)
    """
    check_count(1, batch_size=batch_size)
    _check_params(params)
    count = _length(examples)
    width = min(int(batch_size), count)
    batches = -(-count // width)

    def norm(example: PyTree) -> jax.Array:
        grads = jax.tree.leaves(jax.grad(_scalar(loss))(params, example))
        return jnp.sqrt(sum((jnp.sum(jnp.square(wide(g))) for g in grads), start=jnp.zeros(())))

    def split(x: jax.Array) -> jax.Array:
        """Make a batch of every so many examples, so that each device has its part of all of them; the last one
        repeats.
        """
        padded = jnp.concatenate([x, jnp.repeat(x[-1:], batches * width - count, 0)])
        return jnp.swapaxes(padded.reshape(width, batches, *x.shape[1:]), 0, 1)

    return jax.lax.map(jax.vmap(norm), jax.tree.map(split, examples)).T.ravel()[:count]


def grand_last_layer(features: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Score examples by the norm of the gradient by the last layer alone, its weights and bias: ‖p − y‖ · √(‖h‖² + 1).

    It is exact for softmax regression, an approximation of `grand` otherwise, at the cost of a forward pass.

    Args:
      features: (batch, width), the input h of the last layer.
      logits: (batch, classes), at least two classes.
      labels: (batch,) integers; a traced one out of range scores NaN.

    Returns:
      Scores (batch,).

    Raises:
      InputError: other shapes or types, or labels out of range.

    Examples:
      >>> grand_last_layer(jnp.ones((1, 5)), jnp.zeros((1, 3)), jnp.array([0])).round(4)  # √6 / 3 · √6
      Array([2.], dtype=float32)
    """
    check_array("features", features, np.floating)
    _, own = _check_logits(logits, labels)
    if features.ndim != 2 or len(features) != len(own):
        raise InputError(f"features has shape {features.shape}; pass ({len(own)}, width), a row for each of the logits")
    return el2n(logits, labels) * jnp.sqrt(jnp.sum(jnp.square(wide(features)), -1) + 1)


def _check_logits(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the logits in float32 at least, and (batch, classes) bool: whether a class is the label's."""
    check_array("logits", logits, np.floating)
    check_array("labels", labels, np.integer)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(f"logits has shape {logits.shape}; pass (batch, classes), of two classes or more")
    if labels.shape != logits.shape[:1]:
        raise InputError(f"labels has shape {labels.shape}; pass {logits.shape[:1]}, one class for each row of logits")
    classes = logits.shape[1]
    if not isinstance(labels, jax.core.Tracer) and labels.size:
        with jax.ensure_compile_time_eval():  # labels that a traced function closes over are checked too
            least, most = int(labels.min()), int(labels.max())
        if not 0 <= least <= most < classes:
            raise InputError(f"labels lie in {least} … {most}; pass integers in 0 … {classes - 1}")
    return wide(jnp.asarray(logits)), jnp.asarray(labels)[:, None] == jnp.arange(classes)[None]


def _nan_unless_labelled(own: jax.Array, scores: jax.Array) -> jax.Array:
    return jnp.where(jnp.any(own, -1), scores, jnp.nan)


def _scalar(loss: Callable[[Params, Any], jax.Array]) -> Callable[[Params, Any], jax.Array]:
    def scalar(params: Params, example: PyTree) -> jax.Array:
        value = loss(params, example)
        shape, dtype = jnp.shape(value), jnp.result_type(value)
        if shape != () or not jnp.issubdtype(dtype, jnp.floating):
            raise InputError(f"loss is {dtype} of shape {shape}; return a float scalar, of one example")
        return value

    return scalar


def _check_params(params: Params) -> None:
    check_arrays("params", params)
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            name = _tree.path_name(path)
            raise InputError(f"params at {name!r} has dtype {leaf.dtype}, not a float; close over it in the loss")


def _length(examples: PyTree) -> int:
    check_arrays("examples", examples)
    lengths = {x.shape[0] if x.ndim else 0 for x in jax.tree.leaves(examples)}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"examples has arrays of lengths {lengths}; pass as many examples in each, at least one")
    return int(lengths.pop())
