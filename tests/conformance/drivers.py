"""Training loops as the users of each framework write them."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import optax
from flax import nnx

# Compiling is nearly all the time that these tiny programs take. An optimizer and its oracle need the same options,
# for the order of sums depends on them.
COMPILER = {"xla_backend_optimization_level": 0}

Start = Callable[[Any], tuple[optax.GradientTransformation, Any, Any]]  # params -> transform, first params, first state


class Driver(Protocol):
    """One training run; `params` and `opt_state` are trees of arrays, `traces` counts compilations of its step."""

    params: Any
    opt_state: Any
    traces: int

    def __init__(self, model: Any, start: Start): ...

    def step(self, grads: Any) -> None: ...


class Tree:
    """The functional loop of linen, haiku, equinox, nnx.State and plain dicts."""

    def __init__(self, model: Any, start: Start):
        tx, self.params, self.opt_state = start(model)
        self.traces = 0

        @partial(jax.jit, compiler_options=COMPILER)
        def step(grads: Any, opt_state: Any, params: Any) -> tuple[Any, Any]:
            self.traces += 1
            updates, opt_state = tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        self._step = step

    def step(self, grads: Any) -> None:
        self.params, self.opt_state = jax.block_until_ready(self._step(grads, self.opt_state, self.params))


class NnxOptimizer:
    """`nnx.Optimizer` on a module, which keeps both parameters and state as variables."""

    def __init__(self, model: nnx.Module, start: Start):
        tx, params, _ = start(nnx.as_pure(nnx.state(model, nnx.Param)))
        nnx.update(model, params)
        self._model, self._optimizer = model, nnx.Optimizer(model, tx, wrt=nnx.Param)
        self.traces = 0
        graph = nnx.graphdef((self._model, self._optimizer))

        # `nnx.jit` in the form that takes compiler options.
        @partial(jax.jit, compiler_options=COMPILER)
        def step(variables: nnx.State, grads: Any) -> nnx.State:
            self.traces += 1
            model, optimizer = nnx.merge(graph, variables)
            optimizer.update(model, grads)
            return nnx.state((model, optimizer))

        self._step = step

    def step(self, grads: Any) -> None:
        variables = nnx.state(self._model, nnx.Param)
        grads = jax.tree.unflatten(jax.tree.structure(variables), jax.tree.leaves(grads))
        both = self._model, self._optimizer
        nnx.update(both, jax.block_until_ready(self._step(nnx.state(both), grads)))

    @property
    def params(self) -> Any:
        return nnx.as_pure(nnx.state(self._model, nnx.Param))

    @property
    def opt_state(self) -> Any:
        return nnx.as_pure(self._optimizer.opt_state)
