"""The settings of the searches of sparse model soups, and one recipe for all of their trainings."""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.runs.config import Training, require
from experiments.training import problems
from experiments.training.levels import EvaluateFn, Start, TrainAllFn, train_all
from experiments.training.trainer import Trainer
from jaxticket import filters, tickets, training
from jaxticket.loops import soups
from jaxticket.typing import Key, Params, PyTree

# What the first three members get; from the fourth on they come again.
_VARIED = {"learning_rates": (1.0, 0.5, 2.0), "weight_decays": (0.0, 1e-4, 1e-3), "lengths": (1.0, 0.8, 0.6)}


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Prune in phases, retrain members in each, and average them. In every training the learning rate falls on a line
    from --learning-rate to 0."""

    EXPERIMENT = "soups"
    NOT_HASHED = Training.NOT_HASHED | {"densities", "seeds"}

    densities: tuple[float, ...] = (0.05, 0.02)
    """The fractions of the weights to keep after the last phase, each of a search of its own."""
    phases: int = 3
    """The number of prunings; each keeps the same part of the survivors."""
    members: int = 3
    """The number of copies retrained in each phase."""
    retrain_epochs: int = 10
    """The epochs of each retraining."""
    vary: Literal["seed", "learning_rates", "weight_decays", "lengths"] = "seed"
    """The setting in which members differ, beside the order of the examples."""
    seeds: int = 4
    """Repetitions with other random numbers; the split of the data stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("phases", "members", "retrain_epochs", "seeds"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        require(0 < len(set(self.densities)) == len(self.densities), self, "densities", "different values, one or more")
        require(all(0 < density < 1 for density in self.densities), self, "densities", "between 0 and 1")
        require(self.decay == "constant", self, "decay", "left out: the learning rate falls on a line")
        require(self.warmup == 0, self, "warmup", "left out: the learning rate falls on a line")

    def levels(self) -> list[tuple[float, float]]:
        """Return the density of each phase, and that of the end of its search; from dense to sparse."""
        return sorted(((d, end) for end in self.densities for d in soups.phases(end, self.phases)), reverse=True)


class Lab(NamedTuple):
    """The parts that all searches share."""

    basis: problems.Basis
    placement: training.Placement
    varied: soups.Varied  # the members; then one retrained as long as a member, as long as all of them, and the dense
    steps: dict[str, int]  # of these trainings
    evaluate: EvaluateFn  # of one network, with batch statistics that are computed again
    ensemble: Any  # (stacked parameters, stacked model state) -> accuracies


def lab(config: Config) -> Lab:
    """Return network and data, and one recipe for all trainings, which differ in numbers of their optimizer's state."""
    basis = problems.basis(config)
    once = config.retrain_epochs * basis.recipe.steps_per_epoch
    steps = {"member": once, "imp": once, "imp_as_long": config.members * once, "dense": basis.steps}
    cycle = {name: list(itertools.islice(itertools.cycle(v), config.members)) for name, v in _VARIED.items()}
    values = {name: cycle[name] if config.vary == name else [cycle[name][0]] * config.members for name in cycle}
    values = {name: [*members, *[_VARIED[name][0]] * 3] for name, members in values.items()}
    of = [*["member"] * config.members, "imp", "imp_as_long", "dense"]
    values["lengths"] = [steps[n] / basis.steps * part for n, part in zip(of, values["lengths"], strict=True)]
    line = optax.linear_schedule(config.learning_rate, 0.0, basis.steps)
    varied = soups.vary(dataclasses.replace(basis.recipe, learning_rate=line), **values)

    def together(params: Params, state: PyTree, x: jax.Array, **others: Any) -> tuple[jax.Array, PyTree]:
        logits = jax.vmap(lambda p, s: basis.model.apply(p, s, x, **others)[0])(params, state)
        return jnp.log(soups.ensemble(logits)), state

    ensemble = problems.evaluation(basis.model._replace(apply=together), basis.dataset)
    place = problems.place(config, basis.model, config.seeds)
    return Lab(basis, place, varied, steps, recalibrated(config, basis), ensemble)


def recalibrated(config: Config, basis: problems.Basis) -> EvaluateFn:
    """Return the evaluation of a network with batch statistics that are computed again.

    The authors evaluate members, before they are ranked, and single networks so; the ensemble of predictions has its
    members' own statistics.
    """
    state_of = problems.recalibration(config, basis)
    return lambda params, state: basis.evaluate(params, state_of(params, state))


def train_dense(
    shared: Lab, trainer: Trainer, paths: Sequence[pathlib.Path], keys: Sequence[tuple[Key, Key]]
) -> list[tickets.Ticket]:
    """Return the trained dense networks, loaded if a former process trained them.

    Args:
      shared: the parts that all searches share.
      trainer: trains the networks.
      paths: their files.
      keys: for each, to initialise and to train.
    """
    dense = []
    for init_key, _ in keys:
        params, state = shared.basis.init(init_key)
        dense.append(tickets.Ticket(params, filters.full_mask(params, filters.weights()), 0, state))
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    starts = [Start(dense[n].params, dense[n].state, dense[n].mask, keys[n][1], 0, None) for n in missing]
    trained = train_varied(shared, trainer, "dense", shared.varied.members - 1)(starts) if missing else []
    for number, (params, state, metrics) in zip(missing, trained, strict=True):
        dense[number] = dataclasses.replace(dense[number], params=params, state=state, meta=metrics)
        tickets.save(paths[number], dense[number])
    return [ticket if n in missing else tickets.load(paths[n], like=ticket) for n, ticket in enumerate(dense)]


def train_varied(shared: Lab, trainer: Trainer, name: str, number: int) -> TrainAllFn:
    """Return the function that trains with the setting number `number` of the recipe."""
    train = train_all(trainer, steps=shared.steps[name], evaluate=shared.evaluate)
    fresh = shared.varied.fresh
    return lambda starts: train([start._replace(opt_state=fresh(start.params, number)) for start in starts])
