"""The study of fresh weights: a pruned network that is fine-tuned, against one that is trained from scratch."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax

from experiments.claims.judge import Contest, by_replicate
from experiments.claims.record import Claim
from experiments.reports.study import Watch
from experiments.runs.config import Training, require
from experiments.runs.records import LevelRecord
from experiments.training import problems
from experiments.training.levels import groups, train_all, train_levels
from experiments.training.trainer import Trainer, is_stacked
from jaxticket import diagnostics, filters, loops, tickets, training
from jaxticket.loops import Level
from jaxticket.tickets import Ticket
from jaxticket.typing import Key

BRANCHES = ("dense", "fine_tuned", "scratch_e", "scratch_b")
_TUNED = 0.25  # the last part of a training, whose learning rate it has: 40 of the authors' 160 epochs
_COSTS = {"bias": 1}  # FLOPs beside those of weights, as the authors count
_PAPER = "Liu et al. 2019, Scratch-E and Scratch-B"
_AS_LONG = {"scratch_e": "for as many epochs", "scratch_b": "for as many FLOPs"}


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Prune a trained network once, fine-tune it, and train its mask from fresh weights."""

    EXPERIMENT = "scratch"
    NOT_HASHED = Training.NOT_HASHED | {"densities", "seeds"}

    densities: tuple[float, ...] = (0.2, 0.05)
    """The fractions of the weights to keep."""
    seeds: int = 4
    """Repetitions with other random numbers; the split of the data stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < len(self.densities) == len(set(self.densities)), self, "densities", "different values, one or more")
        require(all(0 < density < 1 for density in self.densities), self, "densities", "between 0 and 1")
        require(self.seeds >= 1, self, "seeds", "at least 1")


def records(config: Config, basis: problems.Basis, watch: Watch) -> Iterator[LevelRecord]:
    """Yield the records of all seeds, which are trained in one program where that is faster, else in turn."""
    placement = problems.place(config, basis.model, config.seeds)
    stacked = is_stacked(placement)

    @functools.cache  # a program for each length of the schedule
    def trainer(steps: int) -> Trainer:
        recipe = dataclasses.replace(basis.recipe, learning_rate=problems.learning_rate(config, steps))
        fit = training.fit(recipe, placement=placement, on_nan=config.on_nan, **watch.looks)
        return Trainer(fit, lanes=config.seeds if stacked else 1, stacked=stacked)

    for seeds in groups(trainer(basis.steps), config.seeds):
        yield from _side_by_side(config, basis, trainer, seeds)


def _side_by_side(
    config: Config, basis: problems.Basis, trainer: Callable[[int], Trainer], seeds: Sequence[int]
) -> Iterator[LevelRecord]:
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(config.seed), seed), 4) for seed in seeds]

    def begin(key: Key) -> Ticket:
        params, state = basis.init(key)
        return Ticket(params, filters.full_mask(params, filters.weights()), 0, state)

    def train(name: str, chosen: Sequence[Ticket], density: float, steps: int) -> list[Level]:
        own = train_all(trainer(steps), steps=steps - chosen[0].step, evaluate=basis.evaluate)
        stores = [tickets.Store(config.folder() / f"seed_{seed}" / f"density_{density}" / name) for seed in seeds]
        return train_levels(own, chosen, index=0, density=density, keys=[key[1] for key in keys], stores=stores)

    dense = train("dense", [begin(key[0]) for key in keys], 1.0, basis.steps)
    tuned_from = basis.steps - round(_TUNED * basis.steps)
    for level, density in enumerate(sorted(config.densities, reverse=True)):
        fresh, tuned = [], []
        for key, (_, _, ticket, trained) in zip(keys, dense, strict=True):
            mask = loops.prune_by()(trained.params, ticket.mask, density, key=key[2])
            fresh.append(dataclasses.replace(begin(key[3]), mask=mask))
            tuned.append(Ticket(trained.params, mask, tuned_from, trained.state))
        flops = functools.partial(diagnostics.flops, tuned[0].params, costs=_COSTS)  # the same of all seeds
        given = {"steps_per_epoch": basis.recipe.steps_per_epoch, "pruned_flops": flops(mask=tuned[0].mask)}
        longer = diagnostics.scratch_b(config.epochs, dense_flops=flops(), **given).steps
        by_branch = (
            dense,
            train("fine_tuned", tuned, density, basis.steps),
            train("scratch_e", fresh, density, basis.steps),
            train("scratch_b", fresh, density, longer),
        )
        for branch, of_seeds in zip(BRANCHES, by_branch, strict=True):
            for seed, (_, _, ticket, trained) in zip(seeds, of_seeds, strict=True):
                collapsed = sorted(diagnostics.layer_collapse([ticket.mask]))
                yield LevelRecord(trained.metrics, seed, level, branch, density, collapsed)


def claims(config: Config, records: Sequence[LevelRecord]) -> list[Claim]:
    """Return the claims that fresh weights are as good as those that were pruned."""
    judged = []
    for level, density in enumerate(sorted(config.densities, reverse=True)):
        of = functools.partial(by_replicate, records, level=level)
        for branch, as_long in _AS_LONG.items():
            share = f"At {100 * density:g} % of the weights"
            claim = f"{share} fresh ones, trained {as_long}, match fine-tuned ones to half a point."
            expected = "as accurate after six structured methods; less so after unstructured pruning on ImageNet"
            contest = Contest(_PAPER, claim, expected, branch, "fine_tuned", density, -0.5)
            judged += contest.judged(of(branch=branch), of(branch="fine_tuned"))
    return judged
