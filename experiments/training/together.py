"""Replicates side by side: trainings that several searches ask for at once become one program."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxticket import training
from jaxticket.errors import DivergedError
from jaxticket.typing import Key, Mask, Params, PyTree

T = TypeVar("T")


class _Request(NamedTuple):
    arguments: tuple[Any, ...]  # params, state, mask, key, opt_state
    step: int
    steps: int

    def kind(self) -> tuple[Any, ...]:
        """What trainings of one program must share."""
        return self.step, self.steps, jax.tree.structure(self.arguments)


class Together:
    """Searches that advance in step, each in a thread, and train whenever all of them wait for a training.

    Args:
      fit: trains stacked replicates, as `training.fit` does.
      count: how many searches there are; each program has as many lanes, so that none compiles anew.
    """

    def __init__(self, fit: training.FitFn, count: int):
        self._fit, self._count = fit, count
        self._turn = threading.Lock()  # one search runs at a time: orbax is not for several threads at once
        self._changed = threading.Condition()
        self._running = 0  # searches that have not yielded yet
        self._requests: dict[int, _Request] = {}
        self._answers: dict[int, training.Fitted | Exception] = {}
        self._stopped = False

    def fit_of(self, index: int) -> training.FitFn:
        """The `FitFn` of one search: it waits until the others want to train too, or have nothing to train."""

        def fit(
            params: Params,
            state: PyTree,
            mask: Mask,
            key: Key,
            *,
            step: int,
            steps: int,
            opt_state: PyTree | None = None,
        ) -> training.Fitted:
            self._turn.release()
            with self._changed:
                self._requests[index] = _Request((params, state, mask, key, opt_state), step, steps)
                self._changed.notify_all()
                self._changed.wait_for(lambda: index in self._answers or self._stopped)
            self._turn.acquire()
            if self._stopped:
                raise futures.CancelledError
            answer = self._answers.pop(index)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return fit

    def advance(self, searches: Sequence[Iterator[T]]) -> Iterator[T]:
        """The items of all searches: the first of each, then the second of each, and so on."""
        with futures.ThreadPoolExecutor(self._count) as pool:
            while True:
                self._running = self._count
                try:
                    waiting = [pool.submit(self._next, search) for search in searches]
                    self._serve()
                except BaseException:  # an interrupt too: no search may go on waiting
                    with self._changed:
                        self._stopped = True
                        self._changed.notify_all()
                    raise
                errors = [future.exception() for future in waiting if future.exception()]
                if errors:  # those of searches that end with another one say nothing
                    raise next((e for e in errors if not isinstance(e, futures.CancelledError)), errors[0])
                items = [future.result() for future in waiting]
                if None in items:
                    return
                yield from items

    def _next(self, search: Iterator[T]) -> T | None:
        try:
            with self._turn:
                return next(search, None)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _serve(self) -> None:
        """Trains what is asked for, until every search has yielded."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._requests) == self._running)
                # In the order of the searches, so that a training that was killed finds its checkpoint again.
                requests, self._requests = dict(sorted(self._requests.items())), {}
            if not requests:
                return
            answers = self._train(requests)
            with self._changed:
                self._answers.update(answers)
                self._changed.notify_all()

    def _train(self, requests: dict[int, _Request]) -> dict[int, training.Fitted | Exception]:
        """The results of all; where some diverge, their error, and the others end with them."""
        answers: dict[int, training.Fitted | Exception] = {}
        for kind in dict.fromkeys(request.kind() for request in requests.values()):
            alike = {index: request for index, request in requests.items() if request.kind() == kind}
            first = next(iter(alike.values()))
            lanes = [*alike.values(), *[first] * (self._count - len(alike))]
            params, state, mask, key, opt_state = _stacked([lane.arguments for lane in lanes])
            try:
                fitted = self._fit(params, state, mask, key, step=first.step, steps=first.steps, opt_state=opt_state)
            except DivergedError as error:
                for lane, index in enumerate(alike):
                    answers[index] = error if lane in error.replicates else futures.CancelledError()
                continue
            trees = jax.device_put((fitted.params, fitted.state, fitted.opt_state), jax.devices()[0])
            for lane, index in enumerate(alike):
                own = jax.tree.map(lambda x, lane=lane: x[lane], trees)
                answers[index] = training.Fitted(*own, fitted.loss[lane])
        return answers


def _stacked(trees: Sequence[PyTree]) -> Any:
    stack: Callable[..., jax.Array] = lambda *xs: jnp.stack(xs)
    return jax.tree.map(stack, *trees)
