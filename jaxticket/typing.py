"""The glossary: the meaning of the words in signatures.

A *mask* travels beside the parameters with the same pytree structure. A leaf is a bool array that broadcasts to its
parameter (each axis full or 1; True = kept). A leaf may also be None: the parameter is then not sparsified and is not
counted in any density.
"""

from collections.abc import Callable, Mapping
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
    "Stacked",
    "Stages",
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
Stacked = Mapping[str, int | tuple[int, ...]]  # regex of a path -> the axes along which layers or experts are stacked
Filter = Callable[[Params], PyTree]  # params -> pytree of bool, as optax's mask arguments are
Schedule = Callable[[jax.Array], jax.Array]  # step count (int32 scalar) -> float scalar
Period = Callable[[jax.Array], jax.Array]  # step count (int32 scalar) -> bool scalar: whether a refresh is due
Key = jax.Array  # a typed PRNG key, as jax.random.key makes them
LossFn = Callable[[Params, PyTree, Any, Key], tuple[Any, PyTree]]  # (params, state, batch, key) -> (mean loss, state)
LogitsFn = Callable[[Params, PyTree, Any, Key], tuple[jax.Array, PyTree]]  # the same -> ((examples, classes), state)
ProgressFn = Callable[[int, float], None]  # called with the step reached and the mean loss since the last call


class ScoreFn(Protocol):
    """The importance of each weight: higher scores are more worth keeping. Leaves that cannot be scored are None.

    A score takes the parameters and names, keyword-only, the signals it needs; `**_` takes the others. The signals are
    `grads` (the raw gradients), `mask` (the weights that are kept), `key` (a typed PRNG key), `aux` (the state of the
    inner optimizer) and, for first masks, `round` (its number). A score that you write yourself is therefore just its
    formula.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> def by_size_and_slope(params, *, grads, **_):
      ...     return jax.tree.map(lambda p, g: jnp.abs(p) + jnp.abs(g), params, grads)
    """

    def __call__(self, params: Params, **signals: Any) -> Scores: ...


class Trained(NamedTuple):
    """The result of a training run.

    Attributes:
      params: the trained parameters.
      state: the model state, such as batch statistics, or None.
      metrics: name -> value.
    """

    params: Params
    state: PyTree
    metrics: dict[str, Any]


class TrainFn(Protocol):
    """A function that trains one ticket: masked parameters in, trained parameters out.

    `step` is the step at which training (and its learning-rate schedule) resumes. `opt_state` is the optimizer state to
    resume with, already masked, or None for a fresh one; `transforms.resume_schedules` sets its schedules to the step.
    The rewind policy decides both.
    """

    def __call__(
        self, params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None
    ) -> Trained: ...


class Stages(NamedTuple):
    """A network as its steps: an embedding, blocks that all compute the same function, and a head.

    The parameters of blocks are `params["blocks"]["block1"]`, `["block2"]` and so on. So a network can run, and be
    pruned, with one block in memory.

    Attributes:
      embed: embed(params, x) -> stream: what the first block reads, a pytree with leaves (batch, ...). It reads none of
        the blocks' parameters, which may be absent.
      block: block(params of the block, stream) -> stream.
      head: head(params, stream) -> outputs, without the blocks' parameters too.
      look: look(params of the block, stream) -> (weights, keys) of the block's attention, in encoders: (batch, heads,
        queries, keys) and (batch, time, heads, channels); None in other models. Beside `block` in a compiled program it
        costs nothing.

    Examples:
      >>> network = Stages(
      ...     embed=lambda params, x: params["scale"] * x,
      ...     block=lambda params, x: x + params["step"],
      ...     head=lambda params, x: x / params["scale"],
      ... )
      >>> params = {"scale": 2.0, "blocks": {"block1": {"step": 3.0}, "block2": {"step": 5.0}}}
      >>> stream = network.embed(params, 1.0)
      >>> for name in ("block1", "block2"):
      ...     stream = network.block(params["blocks"][name], stream)
      >>> network.head(params, stream)
      5.0
    """

    embed: Callable[[Params, Any], PyTree]
    block: Callable[[Params, PyTree], PyTree]
    head: Callable[[Params, PyTree], Any]
    look: Callable[[Params, PyTree], tuple[Any, Any]] | None = None
