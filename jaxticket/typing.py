"""The glossary: what the words in signatures mean.

A *mask* travels beside the parameters with the same pytree structure. A leaf is a bool array that broadcasts to its
parameter (each axis full or 1; True = kept) or None, which means that the parameter is not sparsified and is not
counted in any density.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

__all__ = [
    "Density",
    "Filter",
    "Key",
    "LogitsFn",
    "LossFn",
    "Mask",
    "Params",
    "Period",
    "ProgressFn",
    "PyTree",
    "Schedule",
    "ScoreFn",
    "Scores",
    "SignMask",
    "SoftMask",
    "TrainFn",
    "Trained",
]

PyTree = Any
Params = Any  # pytree of arrays
Mask = Any  # structure of Params; leaves: bool arrays that broadcast to the parameter, or None
SoftMask = Any  # structure of Params; leaves: float arrays, or None
SignMask = Any  # structure of Params; leaves: int8 arrays in {-1, 0, 1}, or None
Scores = Any  # structure of Params; leaves: real arrays (higher = more worth keeping), or None where not scored
Density = Any  # float | traced scalar | pytree of them (None where not sparsified): the fraction kept
Filter = Callable[[Params], PyTree]  # params -> pytree of bool, as optax's mask arguments are
Schedule = Callable[[jax.Array], jax.Array]  # step count (int32 scalar) -> float scalar
Period = Callable[[jax.Array], jax.Array]  # step count (int32 scalar) -> bool scalar: is a refresh due?
Key = jax.Array  # a typed PRNG key, as jax.random.key makes them
LossFn = Callable[[Params, PyTree, Any, Key], tuple[Any, PyTree]]  # (params, state, batch, key) -> (mean loss, state)
LogitsFn = Callable[[Params, PyTree, Any, Key], tuple[jax.Array, PyTree]]  # the same -> ((examples, classes), state)
ProgressFn = Callable[[int, float], None]  # called with the step reached and the mean loss since the last call


class ScoreFn(Protocol):
    """What is important: higher scores are more worth keeping.

    `aux` is the inner optimizer's state (for momentum) or running scores. Leaves that cannot be scored are None.
    """

    def __call__(
        self,
        params: Params,
        *,
        grads: Params | None = None,
        mask: Mask | None = None,
        key: Key | None = None,
        aux: PyTree | None = None,
    ) -> Scores: ...


class Trained(NamedTuple):
    """What a training run returns: parameters, model state (batch statistics or None), metrics (name -> value)."""

    params: Params
    state: PyTree
    metrics: dict[str, Any]


class TrainFn(Protocol):
    """Trains one ticket: masked parameters in, trained parameters out.

    `step` is the step at which training (and its learning-rate schedule) resumes; `opt_state` is the optimizer state
    to resume with, already masked, or None for a fresh one. The rewind policy decides both.
    """

    def __call__(
        self, params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None
    ) -> Trained: ...
