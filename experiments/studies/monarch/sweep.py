"""The points of a run: how hidden layers are trained, the accuracy, the parameters, and the time of a batch."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from experiments.reports.sweeps import Sweep
from experiments.runs.records import SweepRecord
from experiments.studies.monarch.config import Config
from experiments.training import problems
from experiments.training.timing import call_ratio
from jaxticket import filters, models, reparam, training
from jaxticket.typing import Key, Params, PyTree

_HIDDEN = filters.match("^hidden.*/kernel$")
_LAYERS = ("hidden1", "hidden2", "output")


class Lab(Sweep):
    """The records that a run has, and the network and the data, which are made when they are first read."""

    def __init__(self, config: Config, **looks: Any):
        super().__init__(config, ("test_accuracy", "macs", "params"), **looks)
        self._dense: dict[int, Params] = {}

    @functools.cached_property
    def basis(self) -> problems.Basis:
        dataset = problems.load(self.config)
        model = problems.make_model(self.config, dataset, self.config.width)
        return problems.basis(self.config, dataset, models.Model(model.init, _apply))

    @functools.cached_property
    def fit(self) -> training.FitFn:
        return training.fit(self.basis.recipe, on_nan=self.config.on_nan, **self.looks)

    @functools.cached_property
    def whole(self) -> int:
        """The number of parameters of the dense network."""
        return _count(self.basis.init(jax.random.key(0))[0])

    def prunes(self) -> str:
        """Return the parameters of each form; nothing, where no point is missing."""
        if not self.missing:
            return ""
        counts = {"dense": self.whole}
        counts |= {f"{n} blocks": _count(self.structured(n, jax.random.key(0))) for n in sorted(self.config.blocks)}
        return "\n".join(f"{name:12} {count:9,} parameters" for name, count in counts.items())

    def structured(self, blocks: int, key: Key, params: Params | None = None) -> Params:
        """Return parameters with Monarch kernels: nearest to those of a dense network if it is given, or drawn."""
        fresh, _ = self.basis.init(key)
        form = reparam.monarch(blocks=blocks, draw=params is None, where=_HIDDEN)
        latent = form.init(fresh if params is None else params, key=key)
        return jax.tree.map(
            lambda p, m: p if m is None else m, latent.weights, latent.learned, is_leaf=lambda x: x is None
        )

    def train(self, params: Params, key: Key, *, start: int = 0, stop: int | None = None) -> Params:
        """Train from a step to another, by default the last one, with a fresh optimizer."""
        steps = (self.basis.steps if stop is None else stop) - start
        return self.fit(params, None, jax.tree.map(lambda _: None, params), key, step=start, steps=steps).params

    def dense(self, seed: int) -> Params:
        """Return the trained dense network of a seed, which is trained once."""
        if seed not in self._dense:
            init, order, _ = self.keys(seed)
            self._dense[seed] = self.train(self.basis.init(init)[0], order)
        return self._dense[seed]

    def keys(self, seed: int) -> tuple[Key, Key, Key]:
        """Return the keys of the first weights, of the order of the examples, and of the factors."""
        init, order, factors = jax.random.split(jax.random.fold_in(jax.random.key(self.config.seed), seed), 3)
        return init, order, factors


def points(lab: Lab, show: Callable[[str], None]) -> Iterator[SweepRecord]:
    """Yield a record for each cell; finished ones are yielded as they are. `show` gets the current work."""
    yield from lab.finished
    for method, blocks, seed in lab.missing:
        show(f"{method}, {blocks:g} blocks, seed {seed}")
        yield SweepRecord(_measured(lab, method, int(blocks), seed), method, blocks, seed)


def make_trained(lab: Lab, method: str, blocks: int, seed: int) -> Params:
    """Return the trained parameters of a method."""
    init, order, factors = lab.keys(seed)
    tuned_from = lab.basis.steps - round(lab.config.tuned * lab.basis.steps)
    switch = round(lab.config.sparse * lab.basis.steps)
    drawn = functools.partial(lab.structured, blocks, factors)
    ways: dict[str, Callable[[], Params]] = {
        "dense": lambda: lab.dense(seed),
        "monarch": lambda: lab.train(drawn(), order),
        "dense_to_sparse": lambda: lab.train(drawn(lab.dense(seed)), order, start=tuned_from),
        "unprojected": lambda: lab.train(drawn(), order, start=tuned_from),
        "reverse": lambda: lab.train(make_dense(lab.train(drawn(), order, stop=switch)), order, start=switch),
        "narrow": lambda: lab.train(_narrow(lab, _count(drawn()), init), order),
    }
    return ways[method]()


def make_dense(params: Params) -> Params:
    """Return the parameters with dense kernels for Monarch ones, and the same outputs."""
    packed = lambda x: hasattr(x, "dense")
    return jax.tree.map(lambda x: x.dense() if packed(x) else x, params, is_leaf=packed)


def _measured(lab: Lab, method: str, blocks: int, seed: int) -> dict[str, Any]:
    params = make_trained(lab, method, blocks, seed)
    share = _count(params) / lab.whole  # weights are read once an example, so that multiply-adds are as many
    measured: dict[str, Any] = {**lab.basis.evaluate(params, None), "macs": share, "params": share}
    if method in ("monarch", "narrow") and not seed:
        measured |= _times(lab, params)
    return measured


def _times(lab: Lab, params: Params) -> dict[str, float]:
    """Return the times of a batch over those of the dense network."""
    x, y = (a[: lab.config.batch_size] for a in lab.basis.dataset.train)
    loss = lambda params, x, y: problems.cross_entropy(_apply(params, None, x, train=True, key=None)[0], y)
    programs = {"forward": jax.jit(loss), "gradient": jax.jit(jax.grad(loss))}
    dense, _ = lab.basis.init(jax.random.key(0))
    measured = {}
    for name, program in programs.items():
        calls = (functools.partial(program, network, x, y) for network in (dense, params))
        measured[f"time_{name}"], _ = call_ratio(*calls, rounds=lab.config.rounds)
    return measured


def _narrow(lab: Lab, most: int, key: Key) -> Params:
    """Return the widest dense network with at most so many parameters."""
    make = lambda width: problems.make_model(lab.config, lab.basis.dataset, width)
    widths = itertools.takewhile(lambda n: _count(jax.eval_shape(make(n).init, key)[0]) <= most, itertools.count(1))
    return make(max(widths, default=1)).init(key)[0]


def _apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
    """Multiply by the kernels as they are, dense or packed."""
    del train, key
    x = x.reshape(len(x), -1)
    for name in _LAYERS:
        x = x @ params[name]["kernel"] + jnp.broadcast_to(params[name]["bias"], (len(x), params[name]["bias"].size))
        x = x if name == _LAYERS[-1] else jax.nn.relu(x)
    return x, state


def _count(params: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
