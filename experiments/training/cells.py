"""The training of cells: several in one program, each kept as a ticket as soon as it is trained."""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

import jaxticket as jt
from experiments.runs import command_line, environment
from experiments.runs.config import Training
from experiments.runs.records import CellRecord
from experiments.training import kinds, problems
from experiments.training.kinds import DENSE, Cell, Kind
from experiments.training.trainer import TOGETHER, Lane, Trainer, fill, is_stacked
from jaxticket import diagnostics, registry, tickets, training
from jaxticket.errors import DivergedError
from jaxticket.tickets import fingerprint
from jaxticket.typing import Key, Params, ProgressFn, PyTree


class _Begun(NamedTuple):
    """The start of a training: the names and their order are part of the identity of its checkpoint."""

    params: Params
    state: PyTree
    opt_state: PyTree
    key: Key


Renew = Callable[[Lane, jax.Array], Lane]  # (lane, step) -> lane, under jit


class Cells:
    """A trainer of the cells that are not in the folder of the run yet.

    Args:
      together: the number of cells that the run would like to train in one program.
      basis: the network and the data, if they are not those of the configuration.
      renew: for kinds of cells, the change of each between epochs.

    Attributes:
      progress: called with the step reached and the mean loss, or None.
      compiling: called with the program that is compiled next, or None.
      watch: (params, state) -> an entry of a cell's history at each end of an epoch, or None.
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
        together = min(together, TOGETHER)
        self.placement = problems.place(config, self.basis.model, together)
        self.lanes = fill(together, self.placement) if is_stacked(self.placement) else 1
        self._setting = kinds.settings(config, self.basis)
        self.progress: ProgressFn | None = None
        self.compiling: Callable[[str], None] | None = None
        self.watch: Callable[[Params, PyTree], dict[str, Any]] | None = None
        self._checkpoint = command_line.step_checkpoint(folder / "checkpoint", every=config.checkpoint_seconds)
        self._compiled: dict[str, tuple[Kind, Trainer]] = {}
        each = (lambda f: jax.vmap(f, in_axes=(0, None))) if self.lanes > 1 else (lambda f: f)
        self._renew = {kind: jax.jit(each(f)) for kind, f in renew.items()}

    def programs(self, cells: Sequence[Cell]) -> list[list[Cell]]:
        """Return the cells that are trained together: those of one kind, as many at a time as there are lanes."""
        alike_by_kind = {
            kind: [cell for cell in cells if cell.kind == kind] for kind in dict.fromkeys(c.kind for c in cells)
        }
        return [
            alike[at : at + self.lanes] for alike in alike_by_kind.values() for at in range(0, len(alike), self.lanes)
        ]

    def memory(self) -> str:
        """Return a line with the memory that the arrays take."""
        basis = self.basis
        return environment.memory(basis.init, basis.recipe.fresh, basis.dataset, lanes=self.lanes)

    def prunable(self, densities: Sequence[float]) -> str:
        """Return the table of what is pruned to these densities."""
        return environment.prunable(self.basis.init, densities)

    def describe(self, cell: Cell) -> str:
        """Return the table of what the cell's plan prunes, or can prune where a first mask is all of it."""
        plan = cell.make(self._setting(cell.method, cell.density)) if cell.kind != "before" else None
        if not isinstance(plan, jt.Plan):
            return self.prunable([cell.density])
        params, _ = self.basis.init(jax.random.key(self.config.seed))
        return f"what {cell.method} ends with:\n{jt.describe(plan, params)}"

    def train(self, cells: Sequence[Cell]) -> Iterator[CellRecord]:
        """Yield the record of each cell, as soon as its program has ended."""
        for alike in self.programs(cells):
            missing = [cell for cell in alike if not cell.path(self.folder).exists()]
            if missing:
                with _named(missing):
                    self._train(missing)
            for cell in alike:
                yield CellRecord.parse(tickets.describe(cell.path(self.folder))["meta"])
        self._checkpoint.clear()

    def _train(self, cells: Sequence[Cell]) -> None:
        kind, trainer = self._kind(cells[0])
        lanes, losses, history = self._fit(cells[0].kind, kind, trainer, [kind.begin(cell) for cell in cells])
        for number, (cell, lane, loss) in enumerate(zip(cells, lanes, losses, strict=True)):
            params, mask, state = kind.export(lane)
            measured = {
                "loss": loss if math.isfinite(loss) else None,
                **self._skipped(lane),
                **self.basis.evaluate(params, state),
                **({"history": [epoch[number] for epoch in history]} if self.watch else {}),
            }
            kept = jt.masks.summary(params, mask).maskable.density
            record = CellRecord(measured, *cell, kept, sorted(diagnostics.layer_collapse([mask])))
            ticket = jt.Ticket(params, mask, self.basis.steps, state, meta=record.line())
            cell.path(self.folder).parent.mkdir(parents=True, exist_ok=True)
            jt.save(cell.path(self.folder), ticket)

    def _kind(self, cell: Cell) -> tuple[Kind, Trainer]:
        if cell.kind not in self._compiled:
            if self.compiling:
                self.compiling("static masks" if cell.kind == "before" else cell.kind)
            kind = kinds.kind(cell, self.config, self.basis, self._setting)
            alone = self.lanes == 1 and is_stacked(self.placement)  # it needs no axis of lanes
            looks = {"progress": self.progress, "on_nan": self.config.on_nan}
            fit = training.fit(kind.recipe, placement=None if alone else self.placement, **looks)
            self._compiled[cell.kind] = kind, Trainer(fit, lanes=self.lanes, stacked=self.lanes > 1)
        return self._compiled[cell.kind]

    def _fit(
        self, name: str, kind: Kind, trainer: Trainer, lanes: Sequence[Lane]
    ) -> tuple[list[Lane], list[float], list[list[dict[str, Any]]]]:
        """Return the trained lanes, their losses, and the history of each epoch; resume from a checkpoint."""
        count, carry = len(lanes), trainer.join(lanes)
        # With the name: methods may begin from the same bits.
        origin = (
            f"{name} {fingerprint(_Begun(carry.params, carry.state, carry.opt_state, carry.key), self.basis.steps)}"
        )
        at, losses, history = 0, [math.nan] * count, []
        if checkpoint := self._checkpoint.load(origin, _as_ticket(carry, 0)):
            saved, values = checkpoint
            carry = carry._replace(params=saved.params, state=saved.state, opt_state=saved.opt_state)
            at, losses, history = saved.step, values["losses"], values["history"]
        while at < self.basis.steps:
            steps = self.basis.recipe.steps_per_epoch
            carry, all_losses = trainer.advance(carry, step=at, steps=steps)
            at, losses = at + steps, all_losses[:count]
            if name in self._renew and at < self.basis.steps:
                carry = self._renew[name](carry, at)
            if self.watch:
                history.append([self._seen(kind, lane, at) for lane in trainer.split(carry, count)])
            if self._checkpoint.due():
                self._checkpoint.save(origin, _as_ticket(carry, at), {"losses": losses, "history": history})
        return trainer.split(carry, count), losses, history

    def _seen(self, kind: Kind, lane: Lane, step: int) -> dict[str, Any]:
        params, mask, state = kind.export(lane)
        return {"step": step, "density": float(jt.density(params, mask)), **self.watch(params, state)}

    def _skipped(self, lane: Lane) -> dict[str, int]:
        skipped = training.nonfinite.count_skipped(lane.opt_state)
        return {} if skipped is None else {"skipped_steps": int(skipped)}


def finished(folder: pathlib.Path) -> list[CellRecord]:
    """Return the records of all cells in a folder, by any command, of methods that are known."""
    known = {DENSE, *registry.METHODS}
    paths = [path for path in sorted((folder / "cells").glob("*/density_*/seed_*")) if path.parts[-3] in known]
    return [CellRecord.parse(tickets.describe(path)["meta"]) for path in paths]


@contextlib.contextmanager
def _named(cells: Sequence[Cell]) -> Iterator[None]:
    """Name the cells of a training that diverges; the replicates in its message are counted in this order."""
    try:
        yield
    except DivergedError as error:
        names = ", ".join(f"{cell.method} density {cell.density:g} seed {cell.seed}" for cell in cells)
        raise DivergedError(f"{names}: {error}") from error


def _as_ticket(carry: Lane, step: int) -> jt.Ticket:
    mask = jax.tree.map(lambda _: None, carry.params)
    return jt.Ticket(carry.params, mask, step, carry.state, carry.opt_state)
