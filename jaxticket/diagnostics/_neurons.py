"""Neurons that are dead: cut off by the mask, or silent on data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._check_trees import check_mask
from jaxticket._checks import check_array
from jaxticket.errors import InputError


class DeadNeurons(NamedTuple):
    """Dead-neuron rates of a layer, in [0, 1] (Liu et al., 2022, Activate-while-Pruning).

    Attributes:
      static: the part of the neurons that are 0 whatever the input is.
      dynamic: the part of (neuron, example, position) triples that are 0, among the other neurons.
      silent: the part of the other neurons that are 0 on all of these examples.
    """

    static: jax.Array
    dynamic: jax.Array
    silent: jax.Array


def dead_neurons(activations: jax.Array, *, cut: jax.Array | None = None) -> DeadNeurons:
    """Return the dead-neuron rates of a layer, from its activations on some examples after the nonlinearity.

    Args:
      activations: (examples, …, neurons). Rates of equal batches may be averaged.
      cut: (neurons,), True where no input is connected, as `cut_off(kernel_mask)` returns; None for a dense layer. With
        a positive bias such a neuron is not 0 but constant: it is counted as static all the same.

    Returns:
      A DeadNeurons.

    Raises:
      InputError: activations without examples, or a `cut` of another length.

    Examples:
      >>> dead_neurons(jnp.array([[0.0, 1.0, 0.0], [0.0, 2.0, 1.0]]), cut=jnp.array([True, False, False])).dynamic
      Array(0.25, dtype=float32)
    """
    check_array("activations", activations)
    check_mask("cut", cut)
    if activations.ndim < 2 or activations.size == 0:
        raise InputError(f"activations have shape {activations.shape}; pass (examples, …, neurons)")
    neurons = activations.shape[-1]
    cut = jnp.zeros(neurons, bool) if cut is None else cut
    if cut.shape != (neurons,):
        raise InputError(f"cut has shape {cut.shape}, but the activations have {neurons} neurons")
    silence = jnp.mean(activations == 0, axis=range(activations.ndim - 1), dtype=jnp.float32)
    others = jnp.maximum(jnp.sum(~cut), 1)
    return DeadNeurons(
        static=jnp.mean(cut, dtype=jnp.float32),
        dynamic=jnp.sum(jnp.where(cut, 0, silence)) / others,
        silent=jnp.sum(~cut & (silence == 1)) / others,
    )


def cut_off(mask: jax.Array) -> jax.Array:
    """Mark the output neurons that have no input left: (neurons,) of a kernel's mask (…, inputs, neurons).

    Examples:
      >>> cut_off(jnp.array([[True, False], [False, False]]))
      Array([False,  True], dtype=bool)
    """
    check_array("mask", mask, np.bool_)
    return ~jnp.any(mask, axis=range(mask.ndim - 1))
