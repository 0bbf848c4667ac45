"""The trainings of the phase diagram: dense networks at a temperature, and each pruned network twice."""

import dataclasses
import functools
import statistics
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jaxticket as jt
from experiments.runs.config import Training, require
from experiments.training import problems
from experiments.training.trainer import is_stacked
from jaxticket import diagnostics, filters, scores, training
from jaxticket.methods.analysis.three_regimes import mode_connectivity
from jaxticket.training.nonfinite import OnNan
from jaxticket.typing import Mask, Params, PyTree

_ALPHAS = np.linspace(0, 1, 11)  # as published


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Train the dense network at several temperatures, prune it to several densities, and retrain each twice."""

    EXPERIMENT = "phase_diagram"
    NOT_HASHED = Training.NOT_HASHED | {"temperatures"}

    on_nan: OnNan = "record"
    """At a loss that is not finite: record the result, which suits a comparison, stop, or skip such steps."""
    temperature: Literal["epochs", "batch-size"] = "epochs"
    """The cause of a hotter dense training: stopping after fewer epochs, or smaller batches."""
    temperatures: tuple[int, ...] = (1, 2, 4, 8, 16)
    """The epochs of the dense training, or the examples in a batch."""
    densities: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
    """The fractions of each layer's weights to keep."""
    seeds: int = 3
    """Repetitions with other random numbers; the split of the data stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperatures", "densities"):
            values = getattr(self, name)
            require(0 < len(set(values)) == len(values), self, name, "different values, one or more")
        require(min(self.temperatures) >= 1, self, "temperatures", "at least 1")
        require(all(0 < density < 1 for density in self.densities), self, "densities", "between 0 and 1")
        require(self.seeds >= 1, self, "seeds", "at least 1")


class Lab:
    """The parts that all temperatures share: data, network, and the programs.

    Args:
      config: the configuration.
      looks: checkpoint and progress, as of `training.fit`.

    Attributes:
      lanes: networks that are retrained together: by density, in each the seeds, in each both retrainings.
    """

    def __init__(self, config: Config, **looks: Any):
        self.config, self.basis = config, problems.basis(config)
        self.lanes = 2 * len(config.densities) * config.seeds
        self.placement = problems.place(config, self.basis.model, self.lanes)
        self._looks = looks
        self._fits: dict[int, training.FitFn] = {}  # by the size of the batches
        of = lambda seed: jax.random.split(jax.random.fold_in(jax.random.key(config.seed), seed), 4)
        self._keys = jax.vmap(of)(jnp.arange(config.seeds))  # to initialise, to train, for both retrainings

    def dense(self, temperature: int) -> jt.Ticket:
        """Return the dense networks of all seeds, along a leading axis, trained at this temperature."""
        path = self.config.folder() / "dense" / f"{self.config.temperature}_{temperature}"
        params, state = jax.vmap(self.basis.init)(self._keys[:, 0])
        like = jt.Ticket(params, jax.tree.map(lambda _: None, params), state=state)
        if path.exists():
            return jt.load(path, like=like)
        by_epochs = self.config.temperature == "epochs"
        batch_size = self.config.batch_size if by_epochs else temperature
        steps = (temperature if by_epochs else self.config.epochs) * (self.basis.recipe.examples // batch_size)
        params, state = self._fit(batch_size, steps, params, state, like.mask, self._keys[:, 1])
        trained = dataclasses.replace(like, params=params, state=state)
        jt.save(path, trained)
        return trained

    def retrained(self, dense: jt.Ticket) -> list[diagnostics.Endpoint]:
        """Return all lanes, retrained."""
        densities, seeds = len(self.config.densities), self.config.seeds

        def spread(x: jax.Array) -> jax.Array:
            """From (seeds, …) or (densities, seeds, …), or with the retrainings already there, to lanes."""
            return jnp.broadcast_to(x, (densities, seeds, 2, *x.shape[3:])).reshape(self.lanes, *x.shape[3:])

        params, state = jax.tree.map(lambda x: spread(x[None, :, None]), (dense.params, dense.state))
        pruned = masks(dense.params, jnp.asarray(self.config.densities))
        mask = jax.tree.map(lambda m: spread(m[:, :, None]), pruned)
        keys, start = spread(self._keys[None, :, 2:]), jt.apply_mask(params, mask)
        params, state = self._fit(self.config.batch_size, self.basis.steps, start, state, mask, keys)
        ends = (params, mask, state)
        return [diagnostics.Endpoint(*jax.tree.map(lambda x, i=i: x[i], ends)) for i in range(self.lanes)]

    @functools.cached_property
    def measure(self) -> Callable[[diagnostics.Endpoint, diagnostics.Endpoint], dict[str, float]]:
        """Measure two retrainings of one pruned network."""
        x, evaluate = self.basis.dataset.test.x, self.basis.evaluate
        logits = jax.jit(lambda end: self.basis.model.apply(end.params, end.state, x, train=False, key=None)[0])
        cka = jax.jit(lambda a, b: diagnostics.linear_cka(logits(a), logits(b)))
        error = lambda params, state: 1 - evaluate(params, state, ("train",))["train_accuracy"]
        anew = problems.recalibration(self.config, self.basis)

        def of(a: diagnostics.Endpoint, b: diagnostics.Endpoint) -> dict[str, float]:
            path = diagnostics.barrier(error, a, b, alphas=_ALPHAS, state=anew)
            ends = [evaluate(end.params, end.state) for end in (a, b)]
            return {
                **{name: statistics.fmean(metrics[name] for metrics in ends) for name in ends[0]},
                "train_error": float(path.errors[[0, -1]].mean()),
                "mode_connectivity": float(mode_connectivity(jnp.asarray(path.errors))),
                "cka": float(cka(a, b)),
            }

        return of

    def _fit(self, batch_size: int, steps: int, *stacked: PyTree) -> tuple[Params, PyTree]:
        """Train networks along a leading axis from the start, in one program where that is faster, else in turn."""
        if batch_size not in self._fits:
            recipe = dataclasses.replace(self.basis.recipe, batch_size=batch_size)
            self._fits[batch_size] = training.fit(
                recipe, placement=self.placement, on_nan=self.config.on_nan, **self._looks
            )
        train = functools.partial(self._fits[batch_size], step=0, steps=steps, opt_state=None)
        if not is_stacked(self.placement):
            fitted = training.replicate(lambda _, *own: train(*own), placement=self.placement)(None, *stacked)
            return fitted.params, fitted.state
        fitted = train(*stacked)
        return jax.device_put((fitted.params, fitted.state), jax.devices()[0])


@jax.jit
def masks(params: Params, densities: jax.Array) -> Mask:
    """Return masks of the largest weights of each layer: (densities, seeds, …), of parameters (seeds, …)."""

    def largest(params: Params, density: jax.Array) -> Mask:
        return jt.select(filters.only(scores.magnitude(params), filters.weights()), density)

    return jax.vmap(jax.vmap(largest, (0, None)), (None, 0))(params, densities)
