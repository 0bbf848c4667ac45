"""The ways to choose channels, by the name of a method: (variables, budget, key) -> (variables, mask of channels)."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.runs.config import require
from experiments.studies.structured.config import Config
from experiments.training import problems
from jaxticket import scores, structure
from jaxticket.data import Split
from jaxticket.methods.channels.obspa import obspa
from jaxticket.methods.channels.udfc import udfc
from jaxticket.typing import Key, PyTree, ScoreFn

Choose = Callable[[PyTree, structure.Budget, Key], tuple[PyTree, Mapping[str, np.ndarray]]]
Loss = Callable[[PyTree, Split], jax.Array]  # (variables, batch) -> mean loss

PAPERS = {
    "obspa": "Wang et al. 2024, OBSPA",
    "group_magnitude": "Fang et al. 2023, DepGraph",
    "magnitude": "Wang et al. 2024, SPA-L1",
    "snip": "Wang et al. 2024, SPA-SNIP",
    "fisher": "Theis et al. 2018, Fisher pruning",
    "udfc": "Bai et al. 2023, UDFC",
}
_CALIBRATED, _TOGETHER = 1000, 250  # examples that scores of data see, and of them at a time

# Scores of weights, which become those of channels by their mean.
_LIFTED: dict[str, Callable[[Loss, list[Split]], ScoreFn]] = {
    "magnitude": lambda loss, batches: scores.magnitude,
    "snip": scores.snip,
    "fisher": scores.fisher,
}


def apply_of(basis: problems.Basis) -> Callable[[PyTree, jax.Array], Any]:
    """Return the network in evaluation mode: (variables, x) -> logits."""

    def apply(variables: PyTree, x: jax.Array) -> Any:
        return basis.model.apply(variables["params"], variables["state"], x, train=False, key=None)[0]

    return apply


def cost(config: Config, basis: problems.Basis, groups: structure.Groups) -> structure.Cost | None:
    """Return what the budget counts. Times are measured once, and kept in the folder of the run."""
    if config.cost != "latency":
        return {"macs": groups.macs, "params": groups.params, "channels": None}[config.cost]
    require(jax.process_count() == 1, config, "cost", "another in several processes: each would measure other times")
    variables = dict(zip(("params", "state"), basis.init(jax.random.key(0)), strict=True))
    config.folder().mkdir(parents=True, exist_ok=True)
    x = jnp.asarray(basis.dataset.test.x[:1])
    return structure.latency(apply_of(basis), variables, groups, x, cache=config.folder() / "latency.json")


def choice(method: str, config: Config, basis: problems.Basis, groups: structure.Groups) -> Choose:
    """Return the way of a method to choose channels."""
    choose = functools.partial(structure.choose, groups=groups, ranking=config.ranking, multiple=config.multiple)
    apply, train = apply_of(basis), basis.dataset.train
    count = min(len(train.y), _CALIBRATED)
    batches = [Split(train.x[i : i + _TOGETHER], train.y[i : i + _TOGETHER]) for i in range(0, count, _TOGETHER)]

    def loss(variables: PyTree, batch: Split) -> jax.Array:
        logits = apply(variables, batch.x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y))

    def by_surgeon(variables: PyTree, budget: structure.Budget, key: Key) -> tuple[PyTree, Mapping[str, np.ndarray]]:
        looks = {"ranking": config.ranking, "multiple": config.multiple}
        return obspa(variables, apply, [batch.x for batch in batches], groups, budget, **looks)

    def by_group(variables: PyTree, budget: structure.Budget, key: Key) -> tuple[PyTree, Mapping[str, np.ndarray]]:
        return variables, choose(structure.group_magnitude(variables, groups), budget=budget)

    def at_random(variables: PyTree, budget: structure.Budget, key: Key) -> tuple[PyTree, Mapping[str, np.ndarray]]:
        keys = jax.random.split(key, len(groups))
        drawn = {g.name: jax.random.uniform(k, (g.width,)) for g, k in zip(groups, keys, strict=True)}
        return variables, choose(drawn, budget=budget)

    def by_weights(variables: PyTree, budget: structure.Budget, key: Key) -> tuple[PyTree, Mapping[str, np.ndarray]]:
        score = _LIFTED[method](lambda params, batch: loss({**variables, "params": params}, batch), batches)
        return variables, choose(structure.pool(score(variables["params"]), groups), budget=budget)

    def without_data(variables: PyTree, budget: structure.Budget, key: Key) -> tuple[PyTree, Mapping[str, np.ndarray]]:
        kept = choose(structure.pool(scores.magnitude(variables["params"]), groups), budget=budget)
        return udfc(variables, groups, kept), kept

    ways = {"obspa": by_surgeon, "group_magnitude": by_group, "random": at_random, "udfc": without_data}
    return ways.get(method, by_weights)
