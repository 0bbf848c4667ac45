"""The examples that a round of a search leaves for the next one: what each arm chooses, and sets as files."""

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
    """For each arm what it chooses of so many examples; random subsets have these sizes, one a round."""
    rule = functools.partial(prac.prac_set, threshold=threshold, minimum=minimum)

    def random_subset(found: prac.Outcome) -> jax.Array:
        return data_pruning.random_subset(examples, sizes[found.round + 1], key=jax.random.fold_in(key, found.round))

    return {
        "imp": lambda found: jnp.ones(examples, bool),
        "prac": rule,
        "random_subset": random_subset,
        "hard": lambda found: rule(found._replace(sparse=found.dense)),
    }


def file(run: pathlib.Path, seed: int, round_: int) -> pathlib.Path:
    """Where a run keeps the PrAC set that a round was trained on."""
    return run / f"seed_{seed}" / "sets" / f"round_{round_:03d}.json"


def transferred(run: pathlib.Path, seed: int, train: data.Split) -> prac.ChooseFn:
    """Chooses what the same round of another run was trained on."""
    return lambda found: data_pruning.load_subset(file(run, seed, found.round + 1), data=train)[0]


def keep(path: pathlib.Path, found: prac.Round, train: data.Split, provenance: Mapping[str, Any]) -> None:
    """Writes the set of a round, for other networks to be trained on."""
    about = {"method": "prac", "round": found.level.index, **provenance}
    data_pruning.save_subset(path, found.subset, data=train, provenance=about)
