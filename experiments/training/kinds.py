"""The kinds of cells: trained under a plan, or as the latent weights of a reparametrisation."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxticket as jt
from experiments.runs.config import Training
from experiments.training import problems
from experiments.training.trainer import Lane
from jaxticket import data, registry, reparam, training
from jaxticket.registry import Setting
from jaxticket.transforms import Plan
from jaxticket.typing import Key, Mask, Params, PyTree, Schedule

DENSE = "dense"  # the baseline, whose mask keeps everything


class _Scored(NamedTuple):
    """The batches that a score reads, as many and as large as its authors' code reads."""

    count: int
    size: int


_PARTS = {"snip": _Scored(1, 100), "grasp": _Scored(2, 125)}  # of the same examples: of ten classes 10 and 25 each
_DRAWN = {"force": _Scored(60, 128), "iterative_snip": _Scored(60, 128)}  # one for each round


class Cell(NamedTuple):
    """A training: a method at a density with a seed."""

    method: str
    density: float
    seed: int

    def path(self, folder: pathlib.Path) -> pathlib.Path:
        """Return the folder of its ticket."""
        return folder / "cells" / self.method / f"density_{self.density}" / f"seed_{self.seed}"

    @property
    def kind(self) -> str:
        """The kind of the cell.

        Cells of one kind differ in numbers only; methods with constant masks are one kind.
        """
        return "before" if self.method == DENSE or registry.get(self.method).when == "before" else self.method

    def make(self, setting: Setting) -> Plan | reparam.Reparam:
        """Return the method for a setting."""
        return jt.static() if self.method == DENSE else registry.get(self.method).make(setting)

    def optimizer(self, config: Training, rate: Schedule, *, epoch: int) -> optax.GradientTransformation:
        """Return the optimizer of its weights or scores, with this learning rate; `epoch` counts the steps of one."""
        del epoch  # for methods with schedules of their own
        return problems.optimizer(config, rate)


class Kind(NamedTuple):
    """The parts that the cells of one kind share."""

    recipe: training.Recipe
    begin: Callable[[Cell], Lane]
    export: Callable[[Lane], tuple[Params, Mask, PyTree]]  # parameters, mask, model state


class _Keys(NamedTuple):
    """The keys of one seed, one for each purpose; the same for all methods, so that these can be compared in pairs."""

    init: Key
    train: Key
    method: Key


SettingFn = Callable[[str, Any], Setting]  # (method, density) -> setting


def kind(cell: Cell, config: Training, basis: problems.Basis, setting: SettingFn) -> Kind:
    """Return the kind of a cell."""
    make = _under_reparam if isinstance(cell.make(setting(cell.method, cell.density)), reparam.Reparam) else _under_plan
    return make(cell, config, basis, setting)


def settings(config: Training, basis: problems.Basis) -> SettingFn:
    """Return the setting of a method at a density.

    Data-driven scores see the first statistics of the model and the same batches, for all seeds. In training mode, in
    which GraSP, FORCE and iterative SNIP score as their authors do, batch norms use those of the batch.
    """
    _, state = basis.init(jax.random.key(config.seed))
    batches = functools.cache(functools.partial(_batches, basis.dataset, seed=config.seed))

    def apply(params: Params, x: jax.Array, *, train: bool) -> jax.Array:
        return basis.model.apply(params, state, x, train=train, key=jax.random.key(config.seed) if train else None)[0]

    def setting(method: str, density: float | jax.Array) -> Setting:
        return Setting(
            density=density,
            steps=basis.steps,
            apply=functools.partial(apply, train=False),
            criterion=lambda logits, batch: problems.cross_entropy(logits, batch.y),
            inputs=lambda batch: batch.x,
            batches=batches(method),
            apply_train=functools.partial(apply, train=True),
        )

    return setting


def _batches(dataset: data.Dataset, method: str, *, seed: int) -> list[data.Split]:
    """Return the training examples that a method's score reads, each class in its share."""
    if method in _DRAWN:
        count, size = _DRAWN[method]
        return [data.limit(dataset, size, seed=seed + number).train for number in range(count)]
    count, size = _PARTS.get(method, _PARTS["snip"])
    examples = data.limit(dataset, count * size, seed=seed).train
    size = max(1, len(examples.y) // count)
    return [data.Split(examples.x[at : at + size], examples.y[at : at + size]) for at in range(0, count * size, size)]


def _under_plan(cell: Cell, config: Training, basis: problems.Basis, setting: SettingFn) -> Kind:
    """Return the kind of a plan. The density is in the optimizer's state: cells of any density are one program."""

    def tx(rate: Schedule, density: float = 1.0, **given: Any) -> optax.GradientTransformation:
        def sparse(density: jax.Array) -> optax.GradientTransformation:
            chosen = jt.static() if cell.kind == "before" else cell.make(setting(cell.method, density))
            return jt.sparsify(cell.optimizer(config, rate, epoch=basis.recipe.steps_per_epoch), chosen, **given)

        return _guarded(config, optax.inject_hyperparams(sparse)(density=density))

    @functools.cache  # so that a probe compiles once for all seeds
    def plan(method: str, density: float) -> Plan:
        # The density is a number here, not an array of the state: ERK allocates on the host.
        return Cell(method, density, 0).make(setting(method, density))

    def begin(cell: Cell) -> Lane:
        keys = _keys(config.seed, cell.seed)
        params, state = basis.init(keys.init)
        mask, _ = plan(cell.method, cell.density).refresh.init(params, None, key=keys.method)
        sparse = tx(basis.recipe.learning_rate, cell.density, key=keys.method, mask=mask)
        params, opt_state = jt.init(sparse, params)
        return Lane(params, state, opt_state, keys.train)

    def export(lane: Lane) -> tuple[Params, Mask, PyTree]:
        return lane.params, jt.mask_of(lane.opt_state), lane.state

    return Kind(dataclasses.replace(basis.recipe, optimizer=tx), begin, export)


def _under_reparam(cell: Cell, config: Training, basis: problems.Basis, setting: SettingFn) -> Kind:
    """Return the kind of a reparametrisation. The loss gets the count of steps and the density with the state."""

    def tx(rate: Schedule, density: float = 1.0) -> optax.GradientTransformation:
        def wrapped(density: jax.Array) -> optax.GradientTransformation:
            inner = cell.optimizer(config, rate, epoch=basis.recipe.steps_per_epoch)
            return cell.make(setting(cell.method, density)).wrap(inner)

        return _guarded(config, optax.inject_hyperparams(wrapped)(density=density))

    def loss(latent: Params, carried: PyTree, batch: Any, key: Key) -> tuple[jax.Array, PyTree]:
        state, count, density = carried
        params = cell.make(setting(cell.method, density)).realise(latent, count=count)
        value, state = basis.recipe.loss(params, state, batch, key)
        return value, (state, count + 1, density)

    def begin(cell: Cell) -> Lane:
        keys = _keys(config.seed, cell.seed)
        params, state = basis.init(keys.init)
        latent = cell.make(setting(cell.method, cell.density)).init(params, key=keys.method)
        opt_state = tx(basis.recipe.learning_rate, cell.density).init(latent)
        return Lane(latent, (state, jnp.int32(0), jnp.float32(cell.density)), opt_state, keys.train)

    @jax.jit
    def realised(latent: Params, count: jax.Array, density: jax.Array) -> tuple[Params, Mask]:
        return reparam.export(cell.make(setting(cell.method, density)), latent, count=count)

    def export(lane: Lane) -> tuple[Params, Mask, PyTree]:
        state, count, density = lane.state
        return *realised(lane.params, count, density), state

    return Kind(dataclasses.replace(basis.recipe, optimizer=tx, loss=loss), begin, export)


def _guarded(config: Training, tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Guard the recipe with --on-nan skip: a step that is skipped moves no mask either."""
    return training.nonfinite.if_finite(tx) if config.on_nan == "skip" else tx


def _keys(run: int, seed: int) -> _Keys:
    return _Keys(*jax.random.split(jax.random.fold_in(jax.random.key(run), seed), 3))
