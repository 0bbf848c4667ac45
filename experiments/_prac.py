"""What a search on PrAC sets compares: its settings, and its arms."""

import dataclasses
import functools
import math
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _problem
from experiments._config import Training, require
from experiments._subset_training import logits, recipe
from jaxticket import data_pruning, diagnostics, filters, loops, masks, tickets
from jaxticket.methods.datasets import prac
from jaxticket.typing import Params, PyTree

ARMS = ("imp", "prac", "random_subset", "hard")  # searches; the sizes of random subsets are those of prac
OTHERS = ("random_mask", "dense")  # controls trained on all examples, as the tickets of the arms are
_TOGETHER = 1000  # examples that are classified together


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Search for tickets on few examples: those hard to learn, and those that pruning forgets."""

    EXPERIMENT = "prac"
    NOT_HASHED = Training.NOT_HASHED | {"seeds"}

    rounds: int = 16
    """Prunings; the ticket of the last is trained on all examples."""
    rate: float = 0.2
    """Fraction of the surviving weights that each round prunes."""
    tolerance: float = 0.08
    """A round ends once the mask has settled within this part of the remaining weights; 0 runs each to its end."""
    threshold: int = 0
    """Examples that were forgotten more often in a round are hard to memorise."""
    minimum: float = 0.35
    """Part of the training examples that each round keeps at least; the smallest set of the paper has so many."""
    sets_from: pathlib.Path | None = None
    """The folder of another run, of another network: prac trains on the sets that were found there."""
    seeds: int = 3
    """Repetitions of everything with other random numbers (the split of the data stays)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rounds", "seeds"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        require(0 < self.rate < 1, self, "rate", "between 0 and 1")
        require(0 <= self.tolerance <= 1, self, "tolerance", "at least 0 and at most 1")
        require(self.threshold >= 0, self, "threshold", "at least 0")
        require(0 <= self.minimum <= 1, self, "minimum", "at least 0 and at most 1")
        require(self.on_nan != "skip", self, "on_nan", "record or stop here")
        require(self.reduction == "any", self, "reduction", "any: the last batch of a set is not full")
        require(not self.distributed, self, "distributed", "off: searches run in one process")
        require(not self.coordinator, self, "coordinator", "empty: searches run in one process")
        found = self.sets_from is None or list(self.sets_from.glob("seed_0/sets/round_*.json"))
        require(bool(found), self, "sets_from", "the folder of a run of experiments/prac.py")

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        return super().identity() | ({} if self.sets_from is None else {"sets_from": self.sets_from.name})

    def plan(self, arm: str) -> prac.Plan:
        """How long the rounds of an arm are; iterative pruning on all examples runs each to its end."""
        tolerance = 0.0 if arm == "imp" else self.tolerance
        return prac.Plan(rounds=self.rounds, rate=self.rate, epochs=self.epochs, tolerance=tolerance)


class Lab(NamedTuple):
    """What all arms share."""

    basis: _problem.Basis
    recipe: loops.Recipe
    fit: data_pruning.SubsetFit  # of rounds, whose examples are watched
    train: data_pruning.SubsetFit  # of tickets
    options: dict[str, Any]  # of `prac.prac`


class Keys(NamedTuple):
    """Of one seed, each for a purpose of its own; the same for all arms."""

    init: jax.Array
    search: jax.Array
    subsets: jax.Array
    shuffle: jax.Array
    final: jax.Array


def keys_of(config: Config, seed: int) -> Keys:
    """The keys of a seed."""
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(config.seed), seed), len(Keys._fields)))


def lab(config: Config, **looks: Any) -> Lab:
    """Network and data, and what trains on parts of them; `looks` are checkpoint and progress."""
    basis = _problem.basis(config)
    apart = _problem.place(config, basis.model, 1)
    placement = apart if apart.each == "sequence" else None
    # An epoch ends with a batch that is not full.
    steps = config.epochs * -(-len(basis.dataset.train.y) // config.batch_size)
    shared = dataclasses.replace(recipe(config, basis), learning_rate=_problem.learning_rate(config, steps))
    observe = data_pruning.observer(
        logits(config, basis.model), labels=lambda split: split.y, measures={"el2n": data_pruning.el2n}
    )
    classes = jax.jit(lambda params, state, x: basis.model.apply(params, state, x, train=False, key=None)[0].argmax(-1))

    def predict(params: Params, state: PyTree) -> jax.Array:
        x = basis.dataset.train.x
        return jnp.concatenate([classes(params, state, x[at : at + _TOGETHER]) for at in range(0, len(x), _TOGETHER)])

    def validate(params: Params, state: PyTree) -> float:
        return float(basis.evaluate(params, state, ("validation",))["validation_accuracy"])

    how = {"placement": placement, "on_nan": config.on_nan}
    fit = data_pruning.subset_fit(shared, observe=observe, progress=looks.get("progress"), **how)
    train = data_pruning.subset_fit(shared, **how, **looks)
    options = {"predict": predict, "evaluate": validate, "recipe": shared, "checkpoint": looks.get("checkpoint")}
    return Lab(basis, shared, fit, train, options)


def search(config: Config, shared: Lab, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The records of all seeds and arms, each as soon as its ticket is trained on all examples."""
    for seed in range(config.seeds):
        yield from _seed(config, shared, folder / f"seed_{seed}", seed)


def _seed(config: Config, shared: Lab, folder: pathlib.Path, seed: int) -> Iterator[dict[str, Any]]:
    keys = keys_of(config, seed)
    params, state = shared.basis.init(keys.init)
    found = {"dense": tickets.Ticket(params, filters.full_mask(params, filters.weights()), 0, state)}
    sizes = list[int]()
    for arm in ("prac", *(arm for arm in (*ARMS, *OTHERS) if arm != "prac")):
        path = folder / arm
        if not path.exists():
            told = {}
            if arm in ARMS:
                found[arm], told = _search(config, shared, folder, found["dense"], keys, seed, arm, sizes)
            elif arm == "random_mask":
                found[arm] = loops.branches.random_ticket(found["prac"], key=keys.shuffle)
            record = _trained(config, shared, found[arm], keys, {"seed": seed, "branch": arm, **told})
            folder.mkdir(parents=True, exist_ok=True)
            tickets.save(path, dataclasses.replace(found[arm], meta=record))
        shutil.rmtree(_rounds(folder, arm), ignore_errors=True)  # also what a killed process left of it
        found[arm] = tickets.load(path, like=found["dense"])
        record = dict(found[arm].meta)
        sizes = record["examples"] if arm == "prac" else sizes
        yield record


def _rounds(folder: pathlib.Path, arm: str) -> pathlib.Path:
    """Where finished rounds are kept until the ticket is."""
    return folder / "rounds" / arm


def _search(
    config: Config,
    shared: Lab,
    folder: pathlib.Path,
    dense: tickets.Ticket,
    keys: Keys,
    seed: int,
    arm: str,
    sizes: Sequence[int],
) -> tuple[tickets.Ticket, dict[str, Any]]:
    """The ticket of an arm, and what its rounds trained on and saved."""
    choose = _chooser(config, shared, arm, keys, sizes, seed)
    options = {"choose": choose, "key": keys.search, "store": loops.Store(_rounds(folder, arm)), **shared.options}
    costs, free, classes = [], [shared.recipe.examples], list[int]()
    for each in prac.prac(shared.fit, dense, config.plan(arm), **options):
        costs.append(each.cost)
        free.append(int(prac.prac_set(each.found, threshold=config.threshold).sum()))
        classes = np.bincount(np.asarray(shared.basis.dataset.train.y)[np.asarray(each.subset)]).tolist()
        if arm == "prac":
            _keep_set(config, shared, each, folder / "sets", seed)
    told = {
        "examples": [size for _, size in costs],
        "without_minimum": free[:-1],  # what a PrAC set would hold in each round if --minimum were 0
        "epochs": [epochs for epochs, _ in costs],
        "saved": prac.iterations_saved(costs, config.plan(arm), examples=shared.recipe.examples),
        "classes": classes,
    }
    return each.ticket, told


def _chooser(config: Config, shared: Lab, arm: str, keys: Keys, sizes: Sequence[int], seed: int) -> prac.ChooseFn:
    """What each round of an arm leaves for the next one."""
    examples, rule = shared.recipe.examples, {"threshold": config.threshold, "minimum": config.minimum}

    def random_subset(found: prac.Found) -> jax.Array:
        after = min(found.round + 1, len(sizes) - 1)  # nothing is trained on what the last round chooses
        return data_pruning.random_subset(jax.random.fold_in(keys.subsets, found.round), examples, sizes[after])

    def hard(found: prac.Found) -> jax.Array:
        return prac.prac_set(found._replace(sparse=found.dense), **rule)

    def transferred(found: prac.Found) -> jax.Array:
        after = min(found.round + 1, config.rounds - 1)
        file = config.sets_from / f"seed_{seed}" / "sets" / f"round_{after:03d}.json"
        return data_pruning.load_subset(file, data=shared.basis.dataset.train)[0]

    return {
        "imp": lambda found: jnp.ones(examples, bool),
        "prac": functools.partial(prac.prac_set, **rule) if config.sets_from is None else transferred,
        "random_subset": random_subset,
        "hard": hard,
    }[arm]


def _keep_set(config: Config, shared: Lab, found: prac.Round, folder: pathlib.Path, seed: int) -> None:
    """The set of a round as a file, for other networks to be trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    provenance = {"method": "prac", "round": found.level.index, "seed": seed, "config": config.identity()}
    file = folder / f"round_{found.level.index:03d}.json"
    data_pruning.save_subset(file, found.subset, data=shared.basis.dataset.train, provenance=provenance)


def _trained(config: Config, shared: Lab, ticket: tickets.Ticket, keys: Keys, told: dict[str, Any]) -> dict[str, Any]:
    """What a ticket comes to, trained on all examples: its record."""
    fit = shared.train(jnp.ones(shared.recipe.examples, bool))
    steps = config.epochs * -(-shared.recipe.examples // config.batch_size)
    state, mask = tickets.ticket.copy((ticket.state, ticket.mask))
    fitted = fit(tickets.rewind(ticket), state, mask, keys.final, step=0, steps=steps, opt_state=None)
    return {
        **told,
        "density": masks.summary(ticket.params, ticket.mask).maskable.density,
        "collapsed": sorted(diagnostics.layer_collapse([ticket.mask])),
        "loss": fitted.loss if math.isfinite(fitted.loss) else None,
        **shared.basis.evaluate(fitted.params, fitted.state),
    }
