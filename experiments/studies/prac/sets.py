"""The examples that a round of a search leaves for the next one: the choice of each arm, and sets as files."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import data, data_pruning
from jaxticket.methods.datasets import prac


def choosers(
    examples: int, *, sizes: Sequence[int], key: jax.Array, threshold: int, minimum: float
) -> dict[str, prac.ChooseFn]:
    """Return for each arm its choice among so many examples; random subsets have these sizes, one a round."""
    rule = functools.partial(prac.prac_set, threshold=threshold, minimum=minimum)

    def random_subset(prior: prac.Outcome) -> jax.Array:
        return data_pruning.random_subset(examples, sizes[prior.round + 1], key=jax.random.fold_in(key, prior.round))

    return {
        "imp": lambda result: jnp.ones(examples, bool),
        "prac": rule,
        "random_subset": random_subset,
        "hard": lambda result: rule(result._replace(sparse=result.dense)),
    }


def file(run: pathlib.Path, seed: int, round_: int) -> pathlib.Path:
    """Return the file of the PrAC set on which a round was trained."""
    return run / f"seed_{seed}" / "sets" / f"round_{round_:03d}.json"


def transferred(run: pathlib.Path, seed: int, train: data.Split) -> prac.ChooseFn:
    """Return the choice of the set that the same round of another run was trained on."""
    return lambda result: data_pruning.load_subset(file(run, seed, result.round + 1), data=train)[0]


def keep(path: pathlib.Path, result: prac.Round, train: data.Split, provenance: Mapping[str, Any]) -> None:
    """Write the set of a round, for other networks to be trained on."""
    about = {"method": "prac", "round": result.level.index, **provenance}
    data_pruning.save_subset(path, result.subset, data=train, provenance=about)
