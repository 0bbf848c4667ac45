"""The points of a run: what goes before training, the accuracy after it, and the time that it saves."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.reports.sweeps import Sweep
from experiments.runs.config import require
from experiments.runs.records import SweepRecord
from experiments.studies.layers.config import Config
from experiments.training import problems
from experiments.training.timing import call_ratio
from jaxticket import scores, structure, training
from jaxticket.data import Split
from jaxticket.errors import InputError
from jaxticket.methods.channels.layers import remove_blocks, score_blocks, select_blocks
from jaxticket.typing import Key, PyTree, ScoreFn

_TOGETHER = 100  # examples that a score sees at a time
_TEMPERATURE = 200.0  # of GraSP's logits, as its authors have it
_PROBES = {"grasp": scores.grasp, "snip": scores.snip}


class Lab(Sweep):
    """The records that a run has, and the network and the data, which are made when they are first read."""

    def __init__(self, config: Config, **looks: Any):
        super().__init__(config, ("test_accuracy", "macs", "params"), **looks)
        try:  # before any work starts
            for count in config.removed if self.missing else ():
                select_blocks(self.blocks, count, minimum=config.minimum)
        except InputError as error:
            require(False, config, "removed", str(error).partition("must be ")[2])

    @functools.cached_property
    def basis(self) -> problems.Basis:
        return problems.basis(self.config)

    @functools.cached_property
    def fit(self) -> training.FitFn:
        return training.fit(self.basis.recipe, on_nan=self.config.on_nan, **self.looks)

    @functools.cached_property
    def timed_fit(self) -> training.FitFn:
        """A training that saves and shows nothing, which would count as its time."""
        return training.fit(self.basis.recipe, on_nan=self.config.on_nan)

    @functools.cached_property
    def blocks(self) -> dict[str, float]:
        """The blocks of the network, in order."""
        params, _ = self.basis.init(jax.random.key(0))
        return score_blocks(params)

    @functools.cached_property
    def channels(self) -> structure.Groups:
        return self.traced(self.variables(jax.random.key(0)))

    def groups(self) -> str:
        """Return the table of the groups; nothing, where no point is missing."""
        return str(self.channels) if self.missing else ""

    def variables(self, key: Key) -> PyTree:
        return dict(zip(("params", "state"), self.basis.init(key), strict=True))

    def apply(self, variables: PyTree, x: jax.Array) -> jax.Array:
        return self.basis.model.apply(variables["params"], variables["state"], x, train=False, key=None)[0]

    def traced(self, variables: PyTree) -> structure.Groups:
        return structure.trace(self.apply, variables, self.basis.dataset.train.x[:1])

    def train(self, fit: training.FitFn, variables: PyTree, key: Key, steps: int) -> PyTree:
        mask = jax.tree.map(lambda _: None, variables["params"])
        fitted = fit(variables["params"], variables["state"], mask, key, step=0, steps=steps)
        return {"params": fitted.params, "state": fitted.state}


def points(lab: Lab, show: Callable[[str], None]) -> Iterator[SweepRecord]:
    """Yield a record for each cell; finished ones are yielded as they are. `show` gets the current work."""
    yield from lab.finished
    for method, count, seed in lab.missing:
        show(f"{method}, {count:g} blocks, seed {seed}")
        yield SweepRecord(_measured(lab, method, int(count), seed), method, count, seed)


def _measured(lab: Lab, method: str, count: int, seed: int) -> dict[str, Any]:
    init, order, choice = jax.random.split(jax.random.fold_in(jax.random.key(lab.config.seed), seed), 3)
    whole = lab.variables(init)
    smaller = whole if method == "dense" else make_smaller(lab, whole, method, count, choice)
    trained = lab.train(lab.fit, smaller, order, lab.basis.steps)
    sizes = {"macs": lab.channels.macs(), "params": lab.channels.params()}
    measured: dict[str, Any] = lab.basis.evaluate(trained["params"], trained["state"])
    own = lab.traced(smaller)
    measured |= {"macs": own.macs() / sizes["macs"], "params": own.params() / sizes["params"]}
    if method != "dense" and not seed:
        epoch = functools.partial(lab.train, lab.timed_fit, key=order, steps=lab.basis.steps // lab.config.epochs)
        calls = (functools.partial(epoch, variables) for variables in (whole, smaller))
        measured["time_training"], _ = call_ratio(*calls, rounds=lab.config.rounds)
    return measured


def make_smaller(lab: Lab, variables: PyTree, method: str, count: int, key: Key) -> PyTree:
    """Return the variables without blocks, or without channels until as few multiply-adds are left."""
    what, by = method.split("_")
    score = _score(lab, variables, by)
    blocks = _at_random(lab.blocks, key) if score is None else score_blocks(score(variables["params"]))
    gone = select_blocks(blocks, count, minimum=lab.config.minimum)
    shallower = {name: tree and remove_blocks(tree, gone) for name, tree in variables.items()}
    if what == "layers":
        return shallower
    budget = structure.Budget(lab.traced(shallower).macs() / lab.channels.macs(), lab.channels.macs)
    groups = lab.channels
    if score is None:
        keys = jax.random.split(key, len(groups))
        worth = {g.name: jax.random.uniform(k, (g.width,)) for g, k in zip(groups, keys, strict=True)}
    else:
        worth = structure.pool(score(variables["params"]), groups)
    return structure.shrink(variables, structure.choose(worth, groups, budget), groups)


def _score(lab: Lab, variables: PyTree, by: str) -> ScoreFn | None:
    """Return the score of weights; None at random."""
    if by == "random":
        return None
    train, count = lab.basis.dataset.train, min(lab.config.examples, len(lab.basis.dataset.train.y))
    batches = [Split(train.x[i : i + _TOGETHER], train.y[i : i + _TOGETHER]) for i in range(0, count, _TOGETHER)]
    temperature = _TEMPERATURE if by == "grasp" else 1.0

    def loss(params: PyTree, batch: Split) -> jax.Array:
        logits = lab.apply({**variables, "params": params}, batch.x) / temperature
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y))

    return _PROBES[by](loss, batches)


def _at_random(blocks: dict[str, float], key: Key) -> dict[str, float]:
    return dict(zip(blocks, np.asarray(jax.random.uniform(key, (len(blocks),)), float).tolist(), strict=True))
