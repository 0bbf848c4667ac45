"""The points of a run: a network with its kernels, trained dense or sparse, its sizes and its times."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

import jaxticket as jt
from experiments.reports.sweeps import Sweep
from experiments.runs.records import SweepRecord
from experiments.studies.slak.config import DENSE, Config
from experiments.training import problems
from experiments.training.timing import time_ratio
from jaxticket import data, diagnostics, models, scores, training
from jaxticket.methods.channels import slak
from jaxticket.transforms import Plan
from jaxticket.typing import Key, Mask, Params, PyTree

_SIDE = 28  # of the flat images of digits and clothes


class Lab(Sweep):
    """The records that a run has, and the data, which are loaded when they are first read."""

    def __init__(self, config: Config, **looks: Any):
        super().__init__(config, ("test_accuracy", "macs", "params"), **looks)

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        """The data, as images."""
        return data.Dataset(*(split._replace(x=_as_images(split.x)) for split in problems.load(self.config)))

    def network(self, method: str) -> models.Model:
        """Return the network of a method."""
        config = self.config
        small = method == "small"
        kernels = (config.small_kernel,) * len(config.dims) if small else config.kernels
        return models.slak(
            classes=10,
            kernels=kernels,
            small=max(kernels) if small else config.short,
            decomposed=method != "full",
            width=config.wider if is_sparse(method) else 1.0,
            depths=config.depths,
            dims=config.dims,
            patch=config.patch,
            channels=self.dataset.train.x.shape[-1],
            layer_scale=config.layer_scale,
        )

    def macs(self, params: Params, mask: Mask | None = None) -> int:
        """Return the multiply-adds of an image by the weights that are kept."""
        side, positions = self.dataset.train.x.shape[1] // self.config.patch, {}
        for stage in range(1, len(self.config.dims) + 1):
            positions[f"stage{stage}/"] = (side // 2 ** (stage - 1)) ** 2
        return diagnostics.flops(params, positions=positions, mask=mask) // 2

    def table(self) -> str:
        """Return the sizes of the networks; nothing, where no point is missing."""
        if not self.missing:
            return ""
        shapes = {m: jax.eval_shape(self.network(m).init, jax.random.key(0))[0] for m in self.config.methods}
        count = lambda params: sum(leaf.size for leaf in jax.tree.leaves(params))
        return "\n".join(f"{m:12} {count(p):9,} parameters {self.macs(p):12,} multiply-adds" for m, p in shapes.items())

    @functools.cached_property
    def full(self) -> tuple[Params, PyTree]:
        """The variables of the network with full kernels, before training."""
        return self.network(DENSE).init(jax.random.key(self.config.seed))


def is_sparse(method: str) -> bool:
    """Whether the method trains under masks."""
    return method in ("slak", "fixed")


def points(lab: Lab, show: Callable[[str], None]) -> Iterator[SweepRecord]:
    """Yield a record for each cell; finished ones are yielded as they are. `show` gets the current work."""
    yield from lab.finished
    for method, sparsity, seed in lab.missing:
        show(f"{method}, seed {seed}")
        yield SweepRecord(_measured(lab, method, seed), method, sparsity, seed)


def _measured(lab: Lab, method: str, seed: int) -> dict[str, Any]:
    init, order, drawn = jax.random.split(jax.random.fold_in(jax.random.key(lab.config.seed), seed), 3)
    model = lab.network(method)
    basis = problems.basis(lab.config, lab.dataset, model)
    params, state = basis.init(init)
    params, state, mask = _trained(lab, basis, method, params, state, order, drawn)
    accuracies = basis.evaluate(params, state)
    weights = jt.masks.summary(params, mask).maskable.kept if is_sparse(method) else None
    full = sum(leaf.size for leaf in jax.tree.leaves(lab.full[0]))
    own = sum(leaf.size for leaf in jax.tree.leaves(params))
    if weights is not None:
        own -= jt.masks.summary(params, mask).maskable.size - weights
    sizes = {"macs": lab.macs(params, mask) / lab.macs(lab.full[0]), "params": own / full}
    return {**accuracies, **sizes, **(_times(lab, model, params, state) if not seed else {})}


def _trained(
    lab: Lab, basis: problems.Basis, method: str, params: Params, state: PyTree, order: Key, drawn: Key
) -> tuple[Params, PyTree, Mask]:
    """Return the trained parameters, batch statistics and mask."""
    whole, recipe, opt_state = jax.tree.map(lambda _: None, params), basis.recipe, None
    if is_sparse(method):
        plan = make_plan(lab, basis, params, state, regrows=method == "slak")
        sparse = lambda rate: jt.sparsify(problems.optimizer(lab.config, rate), plan, key=drawn)
        recipe = dataclasses.replace(recipe, optimizer=sparse)
        params, opt_state = jt.init(sparse(recipe.learning_rate), params)
    fit = training.fit(recipe, on_nan=lab.config.on_nan, **lab.looks)
    fitted = fit(params, state, whole, order, step=0, steps=basis.steps, opt_state=opt_state)
    return fitted.params, fitted.state, jt.mask_of(fitted.opt_state) if is_sparse(method) else whole


def make_plan(lab: Lab, basis: problems.Basis, params: Params, state: PyTree, *, regrows: bool) -> Plan:
    """Return the plan of SLaK in the ratios of SNIP, or random masks in these ratios that stay."""
    config, probed = lab.config, data.limit(lab.dataset, lab.config.probed, seed=lab.config.seed).train

    def loss(params: Params, batch: data.Split) -> jax.Array:
        logits, _ = basis.model.apply(params, state, batch.x, train=True, key=None)
        return problems.cross_entropy(logits, batch.y)

    densities = slak.ratios(params, scores.snip(loss, [probed])(params), config.density)
    if not regrows:
        return jt.static(densities, score=scores.random)
    return slak.slak(densities, steps=basis.steps, every=config.every, drop_fraction=config.drop_fraction)


def _times(lab: Lab, model: models.Model, params: Params, state: PyTree) -> dict[str, float]:
    """Return the times of a batch over those of full kernels: as trained, and merged."""
    x = lab.dataset.test.x[: lab.config.batch_size]
    run = lambda model: lambda variables, x: model.apply(*variables, x, train=False, key=None)[0]
    dense = (run(lab.network(DENSE)), lab.full)
    programs = {"branches": (params, state), "merged": models.merge_kernels(params, state)}
    return {
        f"time_{name}": time_ratio(dense, (run(model), variables), x, rounds=lab.config.rounds)[0]
        for name, variables in programs.items()
    }


def _as_images(x: jax.Array) -> jax.Array:
    """Return flat images as (examples, height, width, channels); others as they are."""
    return x if x.ndim > 2 else x.reshape(len(x), _SIDE, _SIDE, 1)
