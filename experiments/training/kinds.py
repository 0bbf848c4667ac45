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
_SCORED = 250  # training examples for scores that need data: of ten classes 25 each, as GraSP's code takes


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


SettingFn = Callable[[Any], Setting]  # density -> setting


def kind(cell: Cell, config: Training, basis: problems.Basis, setting: SettingFn) -> Kind:
    """Return the kind of a cell."""
    make = _under_reparam if isinstance(cell.make(setting(cell.density)), reparam.Reparam) else _under_plan
    return make(cell, config, basis, setting)


def settings(config: Training, basis: problems.Basis) -> SettingFn:
    """Return the setting of a density. Data-driven scores see the first statistics of the model, for all seeds."""
    _, state = basis.init(jax.random.key(config.seed))
    batch = data.limit(basis.dataset, _SCORED, seed=config.seed).train

    def setting(density: float | jax.Array) -> Setting:
        return Setting(
            density=density,
            steps=basis.steps,
            apply=lambda params, x: basis.model.apply(params, state, x, train=False, key=None)[0],
            criterion=lambda logits, batch: problems.cross_entropy(logits, batch.y),
            inputs=lambda batch: batch.x,
            batches=[batch],
        )

    return setting


def _under_plan(cell: Cell, config: Training, basis: problems.Basis, setting: SettingFn) -> Kind:
    """Return the kind of a plan. The density is in the optimizer's state: cells of any density are one program."""

    def tx(rate: Schedule, density: float = 1.0, **given: Any) -> optax.GradientTransformation:
        def sparse(density: jax.Array) -> optax.GradientTransformation:
            chosen = jt.static() if cell.kind == "before" else cell.make(setting(density))
            return jt.sparsify(problems.optimizer(config, rate), chosen, **given)

        return _guarded(config, optax.inject_hyperparams(sparse)(density=density))

    @functools.cache  # so that a probe compiles once for all seeds
    def plan(method: str, density: float) -> Plan:
        # The density is a number here, not an array of the state: ERK allocates on the host.
        return Cell(method, density, 0).make(setting(density))

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
            return cell.make(setting(density)).wrap(problems.optimizer(config, rate))

        return _guarded(config, optax.inject_hyperparams(wrapped)(density=density))

    def loss(latent: Params, carried: PyTree, batch: Any, key: Key) -> tuple[jax.Array, PyTree]:
        state, count, density = carried
        params = cell.make(setting(density)).realise(latent, count=count)
        value, state = basis.recipe.loss(params, state, batch, key)
        return value, (state, count + 1, density)

    def begin(cell: Cell) -> Lane:
        keys = _keys(config.seed, cell.seed)
        params, state = basis.init(keys.init)
        latent = cell.make(setting(cell.density)).init(params, key=keys.method)
        opt_state = tx(basis.recipe.learning_rate, cell.density).init(latent)
        return Lane(latent, (state, jnp.int32(0), jnp.float32(cell.density)), opt_state, keys.train)

    @jax.jit
    def realised(latent: Params, count: jax.Array, density: jax.Array) -> tuple[Params, Mask]:
        return reparam.export(cell.make(setting(density)), latent, count=count)

    def export(lane: Lane) -> tuple[Params, Mask, PyTree]:
        state, count, density = lane.state
        return *realised(lane.params, count, density), state

    return Kind(dataclasses.replace(basis.recipe, optimizer=tx, loss=loss), begin, export)


def _guarded(config: Training, tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Guard the recipe with --on-nan skip: a step that is skipped moves no mask either."""
    return training.nonfinite.if_finite(tx) if config.on_nan == "skip" else tx


def _keys(run: int, seed: int) -> _Keys:
    return _Keys(*jax.random.split(jax.random.fold_in(jax.random.key(run), seed), 3))
