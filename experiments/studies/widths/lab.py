"""The network and the data that all methods share, and the training of what they find."""

import dataclasses
import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reports.sweeps import Sweep
from experiments.runs import arrays
from experiments.studies.widths.config import BUDGET, Config
from experiments.training import problems, subsets
from jaxticket import data, structure, training
from jaxticket.methods.channels import tas
from jaxticket.tickets import fingerprint
from jaxticket.typing import Key, Params, PyTree

_STAGES = 3
_SIDE = 28  # of the flat images of digits and clothes


class Shape(NamedTuple):
    """The widths of a residual network: of its first convolution, and of both of each block of each stage."""

    stem: int
    stages: tuple[tuple[tuple[int, int], ...], ...]


class Trained(NamedTuple):
    """A network after its training, and the accuracies."""

    variables: PyTree
    accuracies: dict[str, Any]


class Lab(Sweep):
    """The records that a run has, and the network and the data, which are made when they are first read."""

    def __init__(self, config: Config, **looks: Any):
        super().__init__(config, ("test_accuracy", "macs", "params"), **looks)
        self._searches: dict[float, tas.SearchFn] = {}

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        """The data, as images."""
        return data.Dataset(*(split._replace(x=_as_images(split.x)) for split in problems.load(self.config)))

    @functools.cached_property
    def whole(self) -> Shape:
        """The widths of the whole network."""
        widths = [self.config.width * 2**stage for stage in range(_STAGES)]
        return Shape(widths[0], tuple(((width, width),) * self.config.blocks for width in widths))

    @functools.cached_property
    def variables(self) -> PyTree:
        """The shapes of the whole network's variables."""
        return jax.eval_shape(lambda key: _named(*self.network(self.whole).init(key)), jax.random.key(0))

    @functools.cached_property
    def groups(self) -> structure.Groups:
        """The groups of the whole network's channels."""
        return self.traced(self.network(self.whole))

    def table(self) -> str:
        """Return the table of the groups; nothing, where no point is missing."""
        return str(self.groups) if self.missing else ""

    def network(self, shape: Shape) -> Any:
        """Return the network of these widths."""
        from jaxticket import models  # needs an extra, whose absence the command line reports

        return models.slim_resnet(*shape, channels=self.dataset.train.x.shape[-1])

    def traced(self, model: Any) -> structure.Groups:
        """Return the groups of a network, which count its multiply-adds for an image, and its parameters."""
        variables = jax.eval_shape(lambda key: _named(*model.init(key)), jax.random.key(0))
        apply = lambda v, x: model.apply(v["params"], v["state"], x, train=False, key=None)[0]
        return structure.trace(apply, variables, self.dataset.train.x[:1])

    def shape_of(self, widths: dict[str, int]) -> Shape:
        """Return the network in which each group of channels of the whole one has a width."""
        shapes = self.groups.shapes(self._kept(widths))
        width = lambda *path: shapes["/".join(("params", *path, "conv/kernel"))][-1]
        blocks = range(1, self.config.blocks + 1)
        stages = (
            tuple(tuple(width(f"stage{s}", f"block{b}", f"layer{n}") for n in (1, 2)) for b in blocks)
            for s in range(1, _STAGES + 1)
        )
        return Shape(width("stem"), tuple(stages))

    def scale(self, parts: dict[str, float], fraction: float) -> dict[str, int]:
        """Return widths of groups in these proportions, of which none grows, with so many of the multiply-adds.

        The widths that rounding down makes too narrow by most get a channel each as long as the budget lasts.
        """
        full = np.array(self.groups.widths())
        macs = lambda kept: self.groups.macs(self._kept(dict(zip(parts, map(int, kept), strict=True))))
        exact = lambda scale: np.clip(full * np.minimum(1, scale * np.array(list(parts.values()))), 1, full)
        budget, low, high = fraction * self.groups.macs(), 0.0, 1 / min(parts.values())
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if macs(np.floor(exact(middle))) <= budget else (low, middle)
        widths, aim = np.floor(exact(low)), exact(low)
        for at in np.argsort(widths - aim, kind="stable"):
            wider = np.minimum(widths + (np.arange(len(full)) == at), full)
            widths = wider if macs(wider) <= budget else widths
        return dict(zip(parts, map(int, widths), strict=True))

    def _kept(self, widths: dict[str, int]) -> dict[str, np.ndarray]:
        return {group.name: np.arange(group.width) < widths[group.name] for group in self.groups}

    def searches(self, fraction: float) -> tas.SearchFn:
        """Return TAS within this part of the multiply-adds, whose program compiles once for all seeds."""
        if fraction not in self._searches:
            x, y = self.dataset.train
            half, config = len(y) // 2, self.config
            net = tas.residual_supernet(width=config.width, blocks=config.blocks, shape=x.shape[1:])
            self._searches[fraction] = tas.search(
                net,
                (x[:half], y[:half]),
                (x[half : 2 * half], y[half : 2 * half]),
                fraction=fraction,
                epochs=config.search_epochs,
                batch_size=config.batch_size,
                logit_rate=config.logit_rate,
                tolerance=BUDGET * fraction,
                within=BUDGET,
                **self.looks,
            )
        return self._searches[fraction]

    def train(self, model: Any, key: Key, teacher: jax.Array | None = None) -> Trained:
        """Train a network from fresh weights, under a teacher's logits of the training examples where there are any."""
        basis = problems.basis(self.config, self.dataset, model)
        recipe = basis.recipe
        if teacher is not None:
            logits = lambda params, state, batch, key: model.apply(params, state, batch.x, train=True, key=key)
            loss = training.distill(
                logits,
                lambda batch: batch.teacher,
                labels=lambda batch: batch.y,
                temperature=self.config.temperature,
                weight=self.config.teacher_weight,
            )
            recipe = dataclasses.replace(recipe, loss=loss, data=subsets.Lesson(*self.dataset.train, teacher))
        init, order = jax.random.split(key)
        params, state = basis.init(init)
        fit = training.fit(recipe, on_nan=self.config.on_nan, **self.looks)
        fitted = fit(params, state, jax.tree.map(lambda _: None, params), order, step=0, steps=basis.steps)
        return Trained(_named(fitted.params, fitted.state), basis.evaluate(fitted.params, fitted.state))

    def dense(self, seed: int) -> tuple[jax.Array, dict[str, Any]]:
        """Return the logits of the whole network for the training examples, and its accuracies and seconds of training.

        It is trained once.
        """
        model = self.network(self.whole)

        def trained() -> dict[str, np.ndarray]:
            began = time.perf_counter()
            variables, accuracies = self.train(model, self.key(seed))
            numbers = {**accuracies, "seconds": time.perf_counter() - began}
            logits = subsets.evaluation(model)(variables["params"], variables["state"], self.dataset.train.x)
            return {"logits": logits, **{name: np.float64(value) for name, value in numbers.items()}}

        file = self.config.folder() / "teachers" / f"seed_{seed}.npz"
        names = {"seconds", "test_accuracy", "validation_accuracy"}
        kept = arrays.kept(file, {"logits", *names}, trained, origin=fingerprint(self.dataset.train))
        return jnp.asarray(kept["logits"]), {name: float(kept[name]) for name in sorted(names)}

    def key(self, seed: int) -> Key:
        """Return the key of a seed."""
        return jax.random.fold_in(jax.random.key(self.config.seed), seed)


def _named(params: Params, state: PyTree) -> PyTree:
    return {"params": params, "state": state}


def _as_images(x: jax.Array) -> jax.Array:
    """Return flat images as (examples, height, width, channels), of half the side; others as they are."""
    if x.ndim > 2:
        return x
    return x.reshape(len(x), _SIDE // 2, 2, _SIDE // 2, 2, 1).mean((2, 4))
