"""Trains cells: several in one program, each kept as a ticket as soon as it is trained."""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import jax
import jax.numpy as jnp

import jaxticket as jt
from experiments.runs import command_line, environment
from experiments.runs.config import Training
from experiments.training import kinds, problems
from experiments.training.kinds import Cell, Kind, Lane
from jaxticket import diagnostics, tickets, training
from jaxticket.errors import DivergedError
from jaxticket.tickets import fingerprint
from jaxticket.typing import Params, ProgressFn, PyTree

_TOGETHER = 16  # cells in one program, at most

Renew = Callable[[Lane, jax.Array], Lane]  # (lane, step) -> lane, under jit


class Trainer:
    """Trains the cells that are not in the folder of the run yet.

    Args:
      together: how many cells the run would like to train in one program.
      basis: what they train, if it is not what the configuration says.
      renew: for kinds of cells, what is done to each between epochs.

    Attributes:
      progress: called with the step reached and the mean loss, or None.
      watch: (params, state) -> what becomes part of a cell's history at each end of an epoch, or None.
    """

    def __init__(
        self,
        config: Training,
        folder: pathlib.Path,
        *,
        together: int,
        basis: problems.Basis | None = None,
        renew: Mapping[str, Renew] = MappingProxyType({}),
    ):
        self.config, self.folder = config, folder
        self.basis = problems.basis(config) if basis is None else basis
        together = min(together, _TOGETHER)
        self.placement = problems.place(config, self.basis.model, together)
        # As many on each device: otherwise arrays are gathered at each end of an epoch.
        filled = together + -together % len(self.placement.devices)
        self.lanes = 1 if self.placement.batching == "sequence" else filled
        self._setting = kinds.settings(config, self.basis)
        self.progress: ProgressFn | None = None
        self.watch: Callable[[Params, PyTree], dict[str, Any]] | None = None
        self._checkpoint = command_line.step_checkpoint(folder / "checkpoint", every=config.checkpoint_seconds)
        self._compiled: dict[str, tuple[Kind, training.FitFn]] = {}
        each = (lambda f: jax.vmap(f, in_axes=(0, None))) if self.lanes > 1 else (lambda f: f)
        self._renew = {kind: jax.jit(each(f)) for kind, f in renew.items()}

    def programs(self, cells: Sequence[Cell]) -> list[list[Cell]]:
        """Which cells are trained together: those of one kind, as many at a time as there are lanes."""
        alike_by_kind = {
            kind: [cell for cell in cells if cell.kind == kind] for kind in dict.fromkeys(c.kind for c in cells)
        }
        return [
            alike[at : at + self.lanes] for alike in alike_by_kind.values() for at in range(0, len(alike), self.lanes)
        ]

    def memory(self) -> str:
        """A line that says what memory the arrays take."""
        basis = self.basis
        return environment.memory(basis.init, basis.recipe.fresh, basis.dataset, lanes=self.lanes)

    def train(self, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
        """The record of each cell, as soon as its program has ended."""
        for alike in self.programs(cells):
            missing = [cell for cell in alike if not cell.path(self.folder).exists()]
            if missing:
                with _named(missing):
                    self._train(missing)
            for cell in alike:
                yield tickets.describe(cell.path(self.folder))["meta"]
        self._checkpoint.clear()

    def _train(self, cells: Sequence[Cell]) -> None:
        kind, fit = self._kind(cells[0])
        lanes, losses, history = self._fit(cells[0].kind, kind, fit, [kind.begin(cell) for cell in cells])
        for number, (cell, lane, loss) in enumerate(zip(cells, lanes, losses, strict=True)):
            params, mask, state = kind.export(lane)
            record = {
                **cell._asdict(),
                "kept": jt.masks.summary(params, mask).maskable.density,
                "collapsed": sorted(diagnostics.layer_collapse([mask])),
                "loss": loss if math.isfinite(loss) else None,
                **self._skipped(lane),
                **self.basis.evaluate(params, state),
                **({"history": [epoch[number] for epoch in history]} if self.watch else {}),
            }
            ticket = jt.Ticket(params, mask, self.basis.steps, state, meta=record)
            cell.path(self.folder).parent.mkdir(parents=True, exist_ok=True)
            jt.save(cell.path(self.folder), ticket)

    def _kind(self, cell: Cell) -> tuple[Kind, training.FitFn]:
        if cell.kind not in self._compiled:
            kind = kinds.kind(cell, self.config, self.basis, self._setting)
            options = {"progress": self.progress, "on_nan": self.config.on_nan}
            alone = self.lanes == 1 and self.placement.batching != "sequence"
            fit = training.fit(kind.recipe, placement=None if alone else self.placement, **options)
            self._compiled[cell.kind] = kind, fit
        return self._compiled[cell.kind]

    def _fit(
        self, name: str, kind: Kind, fit: training.FitFn, lanes: Sequence[Lane]
    ) -> tuple[list[Lane], list[float], list[list[dict[str, Any]]]]:
        """The trained lanes, their losses, and for each epoch what was watched of each; from a checkpoint if it is."""
        count, carry = len(lanes), self._join(lanes)
        # With the name: methods may begin from the same bits.
        origin = f"{name} {fingerprint(carry, self.basis.steps)}"
        at, losses, history = 0, [math.nan] * count, []
        if found := self._checkpoint.load(origin, _as_ticket(carry, 0)):
            saved, values = found
            carry = Lane(saved.params, saved.state, saved.opt_state, carry.key)
            at, losses, history = saved.step, values["losses"], values["history"]
        while at < self.basis.steps:
            steps = self.basis.recipe.steps_per_epoch
            mask = jax.tree.map(lambda _: None, carry.params)  # the optimizer masks
            fitted = fit(carry.params, carry.state, mask, carry.key, step=at, steps=steps, opt_state=carry.opt_state)
            carry, at = Lane(fitted.params, fitted.state, fitted.opt_state, carry.key), at + steps
            losses = fitted.loss[:count] if self.lanes > 1 else [fitted.loss]
            if name in self._renew and at < self.basis.steps:
                carry = self._renew[name](carry, at)
            if self.watch:
                history.append([self._seen(kind, lane, at) for lane in self._split(carry, count)])
            if self._checkpoint.due():
                self._checkpoint.save(origin, _as_ticket(carry, at), {"losses": losses, "history": history})
        return self._split(carry, count), losses, history

    def _seen(self, kind: Kind, lane: Lane, step: int) -> dict[str, Any]:
        params, mask, state = kind.export(lane)
        return {"step": step, "density": float(jt.density(params, mask)), **self.watch(params, state)}

    def _skipped(self, lane: Lane) -> dict[str, int]:
        skipped = training.nonfinite.count_skipped(lane.opt_state)
        return {} if skipped is None else {"skipped_steps": int(skipped)}

    def _join(self, lanes: Sequence[Lane]) -> Lane:
        if self.lanes == 1:
            return lanes[0]
        padded = [*lanes, *[lanes[0]] * (self.lanes - len(lanes))]  # another number of them would compile anew
        return cast(Lane, jax.tree.map(lambda *xs: jnp.stack(xs), *padded))

    def _split(self, carry: Lane, count: int) -> list[Lane]:
        if self.lanes == 1:
            return [carry]
        carry = jax.device_put(carry, jax.devices()[0])
        return [jax.tree.map(lambda x, lane=lane: x[lane], carry) for lane in range(count)]


def finished(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The records of all cells in a folder, by whichever commands they were trained."""
    return [tickets.describe(path)["meta"] for path in sorted((folder / "cells").glob("*/density_*/seed_*"))]


@contextlib.contextmanager
def _named(cells: Sequence[Cell]) -> Iterator[None]:
    """Says which cells a training that diverges is of; the replicates in its message are counted in this order."""
    try:
        yield
    except DivergedError as error:
        names = ", ".join(f"{cell.method} density {cell.density:g} seed {cell.seed}" for cell in cells)
        raise DivergedError(f"{names}: {error}") from error


def _as_ticket(carry: Lane, step: int) -> jt.Ticket:
    mask = jax.tree.map(lambda _: None, carry.params)
    return jt.Ticket(carry.params, mask, step, carry.state, carry.opt_state)
