"""The search on PrAC sets: its settings, and the arms that it compares."""

import dataclasses
import math
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runs.config import Rewinding, require
from experiments.runs.records import ArmRecord
from experiments.studies.prac import sets
from experiments.training import problems
from experiments.training.subsets import evaluation, logits, recipe, steps
from jaxticket import data_pruning, diagnostics, filters, loops, masks, tickets, training
from jaxticket.methods.datasets import prac
from jaxticket.typing import Params, PyTree

ARMS = ("imp", "prac", "random_subset", "hard")  # searches; the sizes of random subsets are those of prac
OTHERS = ("random_mask", "dense")  # controls trained on all examples, as the tickets of the arms are


@dataclasses.dataclass(frozen=True)
class Config(Rewinding):
    """Search for tickets on few examples: those hard to learn, and those that pruning forgets."""

    EXPERIMENT = "prac"
    NOT_HASHED = Rewinding.NOT_HASHED | {"seeds"}

    rounds: int = 16
    """The number of prunings; the ticket of the last is trained on all examples."""
    rate: float = 0.2
    """The fraction of the surviving weights that each round prunes."""
    tolerance: float = 0.08
    """A round ends once the mask has settled within this part of the remaining weights; 0 runs each to its end."""
    threshold: int = 0
    """Examples that were forgotten more often than this in a round count as hard."""
    minimum: float = 0.35
    """The least part of the training examples that each round keeps, as in the paper's smallest set."""
    sets_from: pathlib.Path | None = None
    """The folder of another run, of another network, whose PrAC sets are used."""
    seeds: int = 3
    """Repetitions with other random numbers; the split of the data stays."""

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
        if self.sets_from is not None:
            wanted = [sets.file(self.sets_from, s, r) for s in range(self.seeds) for r in range(self.rounds)]
            needed = "the folder of a run of experiments/prac.py with as many --seeds and --rounds"
            require(all(map(pathlib.Path.exists, wanted)), self, "sets_from", needed)

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        return super().identity() | ({} if self.sets_from is None else {"sets_from": self.sets_from.name})

    def plan(self, arm: str, steps: int) -> prac.Plan:
        """Return the plan of an arm, of so many steps on all examples; iterative pruning runs each round to its end."""
        return prac.Plan(
            rounds=self.rounds,
            rate=self.rate,
            epochs=self.epochs,
            tolerance=0.0 if arm == "imp" else self.tolerance,
            rewind_step=self.rewound_to(steps),
            warmup=self.warmup * self.epochs // steps,
        )


class Lab(NamedTuple):
    """The parts that all arms share."""

    basis: problems.Basis
    recipe: training.Recipe
    fit: training.FitFn  # of rounds, whose examples are watched
    train: training.FitFn  # of tickets
    options: dict[str, Any]  # of `prac.prac`
    steps: int  # of a training on all examples


class Keys(NamedTuple):
    """The keys of one seed, one for each purpose; the same for all arms."""

    init: jax.Array
    search: jax.Array
    subsets: jax.Array
    shuffle: jax.Array
    final: jax.Array


def keys_of(run: int, seed: int) -> Keys:
    """Return the keys of a seed, of the run with the seed `run`."""
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(run), seed), len(Keys._fields)))


def lab(config: Config, **looks: Any) -> Lab:
    """Return network and data, and the trainings on parts of them; `looks` are checkpoint and progress."""
    basis = problems.basis(config)
    apart = problems.place(config, basis.model, 1)
    placement = apart if apart.batching == "sequence" else None
    whole = steps(config, len(basis.dataset.train.y))
    require(config.rewind_step < whole, config, "rewind_step", f"below the {whole} steps of a training")
    if config.sets_from is not None:  # raises now, not after a round, if they are of other examples
        data_pruning.load_subset(sets.file(config.sets_from, 0, 0), data=basis.dataset.train)
    shared = dataclasses.replace(recipe(config, basis), learning_rate=problems.learning_rate(config, whole))
    observe = training.observer(
        logits(config, basis.model), labels=lambda split: split.y, measures={"el2n": data_pruning.el2n}
    )
    classify = evaluation(basis.model)

    def predict(params: Params, state: PyTree) -> jax.Array:
        return jnp.asarray(classify(params, state, basis.dataset.train.x).argmax(-1))

    def validate(params: Params, state: PyTree) -> float:
        return float(basis.evaluate(params, state, ("validation",))["validation_accuracy"])

    how = {"placement": placement, "on_nan": config.on_nan}
    fit = training.fit(shared, observe=observe, progress=looks.get("progress"), **how)
    train = training.fit(shared, **how, **looks)
    options = {"predict": predict, "evaluate": validate, "recipe": shared, "checkpoint": looks.get("checkpoint")}
    return Lab(basis, shared, fit, train, options, whole)


def search(config: Config, shared: Lab, folder: pathlib.Path) -> Iterator[ArmRecord]:
    """Yield the records of all seeds and arms, each as soon as its ticket is trained on all examples."""
    for seed in range(config.seeds):
        keys = keys_of(config.seed, seed)
        params, state = shared.basis.init(keys.init)
        begin = tickets.Ticket(params, filters.full_mask(params, filters.weights()), 0, state)
        yield from _arms(config, shared, _Seed(seed, folder, keys, begin))


class _Seed(NamedTuple):
    """A repetition of everything."""

    number: int
    run: pathlib.Path  # the folder of all of them
    keys: Keys
    begin: tickets.Ticket  # what the searches begin with: untrained, not pruned

    @property
    def folder(self) -> pathlib.Path:
        """The folder of its tickets."""
        return self.run / f"seed_{self.number}"

    def rounds(self, arm: str) -> pathlib.Path:
        """The folder in which finished rounds are kept until the ticket is."""
        return self.folder / "rounds" / arm


def _arms(config: Config, shared: Lab, seed: _Seed) -> Iterator[ArmRecord]:
    by_arm, sizes = dict[str, tickets.Ticket](), list[int]()
    for arm in ("prac", *(arm for arm in (*ARMS, *OTHERS) if arm != "prac")):
        path = seed.folder / arm
        if not path.exists():
            rounds = dict[str, Any]()
            if arm in ARMS:
                ticket, rounds = _search(config, shared, seed, arm, sizes)
            elif arm == "random_mask":
                ticket = loops.branches.random_ticket(by_arm["prac"], key=seed.keys.shuffle)
            else:  # dense, from the weights that the tickets start from
                ticket = dataclasses.replace(by_arm["prac"], mask=seed.begin.mask)
            record = _trained(shared, ticket, seed, branch=arm, **rounds)
            seed.folder.mkdir(parents=True, exist_ok=True)
            tickets.save(path, dataclasses.replace(ticket, meta=record.line()))
        shutil.rmtree(seed.rounds(arm), ignore_errors=True)  # also what a killed process left of it
        by_arm[arm] = tickets.load(path, like=seed.begin)
        record = ArmRecord.parse(by_arm[arm].meta)
        sizes = record.examples if arm == "prac" else sizes
        yield record


def _search(
    config: Config, shared: Lab, seed: _Seed, arm: str, sizes: Sequence[int]
) -> tuple[tickets.Ticket, dict[str, Any]]:
    """Return the ticket of an arm, with the examples and the savings of its rounds."""
    train, examples, plan = shared.basis.dataset.train, shared.recipe.examples, config.plan(arm, shared.steps)
    rule = {"threshold": config.threshold, "minimum": config.minimum}
    choose = sets.choosers(examples, sizes=sizes, key=seed.keys.subsets, **rule)[arm]
    if arm == "prac" and config.sets_from is not None:
        choose = sets.transferred(config.sets_from, seed.number, train)
    options = {"choose": choose, "key": seed.keys.search, "store": tickets.Store(seed.rounds(arm)), **shared.options}
    costs, free, classes = [], [examples], list[int]()
    for round_ in prac.prac(shared.fit, seed.begin, plan, **options):
        costs.append(round_.cost)
        free.append(int(prac.prac_set(round_.outcome, threshold=config.threshold).sum()))
        classes = np.bincount(np.asarray(train.y)[np.asarray(round_.subset)]).tolist()
        if arm == "prac":
            file = sets.file(seed.run, seed.number, round_.level.index)
            sets.keep(file, round_, train, {"seed": seed.number, "config": config.identity()})
    rounds = {
        "examples": [size for _, size in costs],
        "without_minimum": free[:-1],  # what a PrAC set would hold in each round if --minimum were 0
        "epochs": [epochs for epochs, _ in costs],
        "saved": prac.iterations_saved(costs, plan, examples=examples),
        "classes": classes,
    }
    return round_.ticket, rounds


def _trained(shared: Lab, ticket: tickets.Ticket, seed: _Seed, **about: Any) -> ArmRecord:
    """Return the record of a ticket that is trained on all examples."""
    everything = jnp.ones(shared.recipe.examples, bool)
    state, mask = jax.tree.map(jnp.copy, (ticket.state, ticket.mask))
    fitted = shared.train(
        tickets.rewind(ticket), state, mask, seed.keys.final, step=0, steps=shared.steps, subset=everything
    )
    loss = fitted.loss if math.isfinite(fitted.loss) else None
    return ArmRecord(
        {"loss": loss, **shared.basis.evaluate(fitted.params, fitted.state)},
        seed=seed.number,
        **about,
        density=masks.summary(ticket.params, ticket.mask).maskable.density,
        collapsed=sorted(diagnostics.layer_collapse([ticket.mask])),
    )
