"""The trainings of a run: the search of each seed, and its tickets made coarse."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxticket as jt
from experiments.reports.sweeps import Sweep
from experiments.runs import environment
from experiments.runs.records import SweepRecord
from experiments.studies.structure_lth import networks
from experiments.studies.structure_lth.config import Config
from experiments.training import problems
from experiments.training.timing import time_ratio
from jaxticket import filters, loops, masks, schedules, structure, tickets, training
from jaxticket.loops import Level
from jaxticket.methods.channels import structure_lth
from jaxticket.tickets import Ticket
from jaxticket.typing import Mask, PyTree

# As in the paper, neither the first convolution nor the last layer is pruned.
_PRUNED = filters.weights(exclude="^(conv1|output)/")


class Lab(Sweep):
    """The records that a run has, and what its trainings share, which is loaded when it is first read.

    Args:
      config: the configuration.
      looks: checkpoint and progress, as of `training.fit`.
    """

    def __init__(self, config: Config, **looks: Any):
        super().__init__(config, ("test_accuracy", "kept", "time"), **looks)

    @functools.cached_property
    def basis(self) -> problems.Basis:
        return problems.basis(self.config)

    @functools.cached_property
    def fit(self) -> training.FitFn:
        return training.fit(self.basis.recipe, on_nan=self.config.on_nan, **self.looks)

    @functools.cached_property
    def groups(self) -> structure.Groups:
        params, _ = jax.eval_shape(self.basis.init, jax.random.key(0))
        return structure.trace(self.network, params, self.inputs)

    @property
    def inputs(self) -> jax.Array:
        """The batch that is timed."""
        examples = np.asarray(self.basis.dataset.test.x)
        return jnp.asarray(np.resize(examples, (self.config.timed, *examples.shape[1:])))

    def network(self, params: PyTree, x: jax.Array) -> Any:
        """Return the logits of the network, which has no state."""
        return self.basis.model.apply(params, {}, x, train=False, key=None)[0]

    def prunes(self) -> str:
        """Return the table of the weights that are pruned; nothing, where no point is missing."""
        densities = [(1 - self.config.rate) ** at for at in sorted(self.config.rounds)]
        return environment.prunable(self.basis.init, densities, where=_PRUNED) if self.missing else ""


def points(lab: Lab, show: Callable[[str], None]) -> Iterator[SweepRecord]:
    """Yield a record for each cell; finished ones are yielded as they are. `show` gets the current work."""
    yield from lab.finished
    search: _Search | None = None
    for arm, sparsity, seed in lab.missing:
        if search is None or search.seed != seed:
            search = _Search(lab, seed, show)
        show(f"{arm}, sparsity {sparsity:.2f}, seed {seed}")
        yield SweepRecord(search.measure(arm, sparsity), arm, sparsity, seed)


class _Search:
    """The iterative pruning of a seed, whose levels are trained when they are first needed."""

    def __init__(self, lab: Lab, seed: int, show: Callable[[str], None]):
        config, steps = lab.config, lab.basis.steps
        self.lab, self.seed = lab, seed
        self._folder = config.folder() / f"seed_{seed}"
        self._rewound = config.rewound_to(steps)
        self._train = training.train_fn(lab.fit, steps=steps - self._rewound, evaluate=lab.basis.evaluate)
        init_key, first_key, search_key, self._key, self._draw_key = jax.random.split(
            jax.random.fold_in(jax.random.key(config.seed), seed), 5
        )
        params, state = lab.basis.init(init_key)
        mask = filters.full_mask(params, _PRUNED)
        fitted = lab.fit(*jax.tree.map(jnp.copy, (params, state, mask)), first_key, step=0, steps=self._rewound)
        self._levels = loops.imp(
            self._train,
            Ticket(fitted.params, mask, self._rewound, fitted.state),
            densities=schedules.levels(max(config.rounds) + 1, rate=config.rate),
            prune=loops.prune_by(),
            key=search_key,
            store=tickets.Store(self._folder / "search"),
        )
        self._done: list[Level] = []
        self._show = show

    def level(self, at: int) -> Level:
        """Return a level of the search."""
        while len(self._done) <= at:
            self._show(f"round {len(self._done)} of the search, seed {self.seed}")
            self._done.append(next(self._levels))
        return self._done[at]

    def measure(self, arm: str, sparsity: float) -> dict[str, Any]:
        """Return the accuracy, the density and the time of a ticket that is made coarse and trained."""
        at = self.lab.config.sparsities().get(sparsity, 0)
        level, blocks = self.level(at), tuple[str, ...]()
        if arm in ("dense", "unstructured"):
            ticket, trained = level.ticket, level.trained
        elif arm == "regroup":
            mask = self._regrouped(level.ticket.mask)
            blocks = tuple(name for name in mask if _differ(mask[name], level.ticket.mask[name]))
            ticket, trained = self._trained(dataclasses.replace(level.ticket, mask=mask), at, arm)
        else:
            ticket, trained = self._trained(self._smaller(level.ticket, arm, at), at, arm)
        metrics = {name: value for name, value in trained.metrics.items() if name.endswith("accuracy")}
        return {
            **metrics,
            "kept": self._kept(ticket),
            "time": self._time(trained.params, ticket.mask, blocks),
            "regrouped": len(blocks),
        }

    def _regrouped(self, mask: Mask) -> Mask:
        config = self.lab.config
        knobs = {"parts": config.parts, "ratio": config.ratio, "least_channels": config.least_channels}
        return structure_lth.regroup(mask, **knobs)

    def _smaller(self, ticket: Ticket, arm: str, at: int) -> Ticket:
        """Return the ticket without the channels that go: a smaller network, with all of its weights."""
        filled = structure_lth.refill(ticket.mask, rate=self.lab.config.fill if arm == "refill_plus" else 0.0)
        kept = networks.channels(filled, self.lab.groups)
        if arm == "random":
            kept = networks.draw(kept, jax.random.fold_in(self._draw_key, at))
        params = structure.shrink(ticket.params, kept, self.lab.groups)
        return dataclasses.replace(ticket, params=params, mask=filters.full_mask(params, _PRUNED))

    def _trained(self, ticket: Ticket, at: int, arm: str) -> tuple[Ticket, Any]:
        store = tickets.Store(self._folder / f"round_{at}" / arm)
        level = loops.train_level(self._train, ticket, index=0, density=1.0, key=self._key, store=store)
        return level.ticket, level.trained

    def _kept(self, ticket: Ticket) -> float:
        """Return the part of the prunable weights of the whole network."""
        whole = self._done[0].ticket
        return int(masks.nnz(ticket.params, ticket.mask)) / int(masks.nnz(whole.params, whole.mask))

    def _time(self, params: PyTree, mask: Mask, blocks: tuple[str, ...]) -> float:
        lab, dense = self.lab, self.level(0).trained.params
        other: tuple[networks.Network, PyTree] = lab.network, params
        if blocks and lab.config.model == "lenet_300_100":
            other = networks.run_dense_layers, networks.pack(jt.apply_mask(params, mask), mask, blocks)
        return time_ratio((lab.network, dense), other, lab.inputs, rounds=lab.config.timings)[0]


def _differ(mask: Mask, other: Mask) -> bool:
    pairs = zip(jax.tree.leaves(mask), jax.tree.leaves(other), strict=True)
    return any(bool(jnp.any(a != b)) for a, b in pairs)
