"""The trainings of a search for strong tickets: networks of several widths, and methods that leave their weights."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import optax

from experiments.runs.config import Training, require
from experiments.training import kinds, problems
from experiments.training.cells import Cells, Renew
from experiments.training.kinds import DENSE
from experiments.training.trainer import Lane
from jaxticket import registry, reparam, schedules
from jaxticket.registry import Setting
from jaxticket.reparam import Latent, Reparam
from jaxticket.typing import Key, Mask, Params, PyTree, Schedule

METHODS = (
    "edge_popup",
    "biprop",
    "signed_supermask",
    "edge_popup+recycling",
    "edge_popup+iterand",
    "random",
)


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Search untrained networks for tickets; beside them stand networks whose weights are trained."""

    EXPERIMENT = "strong_tickets"
    NOT_HASHED = Training.NOT_HASHED | {"methods", "densities", "widths", "seeds"}

    epochs: int = 30
    """Epochs of a training."""
    batch_size: int = 64
    """Examples in a step."""
    optimizer: Literal["adam", "sgd"] = "sgd"
    """The optimizer of the scores, and of the weights of the references; signed_supermask has its authors' own."""
    weight_decay: float = 5e-4
    """The L2 penalty: added to the gradient, times each score or weight."""
    learning_rate: float = 0.1
    """The peak of the learning rate."""
    decay: Literal["constant", "cosine", "steps"] = "cosine"
    """The learning rate after the warm-up."""
    methods: tuple[Literal[METHODS], ...] = METHODS
    """The searches, with spaces or commas between them; random trains the weights under a random mask."""
    densities: tuple[float, ...] = (0.5, 0.2, 0.1)
    """The fractions of the weights to keep; for signed_supermask those at its start."""
    widths: tuple[int, ...] = (16, 100)
    """The widths of the networks: LeNet-300-100 has 100."""
    weights: Literal["kaiming_normal", "signed_constant"] = "kaiming_normal"
    """The distribution of the weights, from jaxticket.reparam."""
    seeds: int = 3
    """Repetitions with other random numbers; the split of the data stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("methods", "densities", "widths"):
            values = getattr(self, name)
            require(0 < len(values) == len(set(values)), self, name, "different values, at least one")
        require(all(0 < density < 1 for density in self.densities), self, "densities", "between 0 and 1")
        require(min(self.widths) >= 1, self, "widths", "at least 1")
        require(self.seeds >= 1, self, "seeds", "at least 1")

    def cells(self) -> list["Cell"]:
        """Return the trainings of each width: the dense network first, then by method from dense to sparse."""
        pairs = [(DENSE, 1.0), *((m, d) for m in self.methods for d in sorted(self.densities, reverse=True))]
        return [Cell(method, density, seed) for method, density in pairs for seed in range(self.seeds)]


class Cell(kinds.Cell):
    """A training: a search at a density with a seed, or a reference."""

    @property
    def kind(self) -> str:
        return self.method if self.method in _SEARCHES else super().kind

    def make(self, setting: Setting) -> Any:
        return _SEARCHES[self.method](setting) if self.method in _SEARCHES else super().make(setting)

    def optimizer(self, config: Training, rate: Schedule, *, epoch: int) -> optax.GradientTransformation:
        if self.method != "signed_supermask":
            return super().optimizer(config, rate, epoch=epoch)
        return _sgdw(epoch)


def _signed(setting: Setting) -> Reparam:
    """Return uniform initial scores, of which this part lies above the threshold."""
    return reparam.signed_supermask(1 - setting.density)


def _sgdw(epoch: int) -> optax.GradientTransformation:
    """The authors' optimizer of signed supermasks, whose rate and decay fall by a tenth every ten epochs.

    The authors train 39,000 steps at a rate of 0.005. In the 1,620 steps of the default the decay outruns that rate: of
    10 % of the weights none is left, and validation accuracy is 11 %. At ten times the rate it is 91 %.
    """
    rate, decay = (optax.exponential_decay(value, 10 * epoch, 0.9) for value in (0.05, 3e-4))
    return reparam.sgdw(rate, weight_decay=decay)


_POPUP = registry.get("edge_popup").make
_SEARCHES: Mapping[str, Callable[[Setting], Any]] = {
    "edge_popup": _POPUP,
    "edge_popup+recycling": _POPUP,
    "edge_popup+iterand": _POPUP,
    "biprop": registry.get("biprop").make,
    "signed_supermask": _signed,
}


def trainer(config: Config, width: int) -> Cells:
    """Return the trainer of the cells of this width, in a folder of its own."""
    as_configured = problems.basis(config)
    model = problems.make_model(config, as_configured.dataset, width)
    draw = getattr(reparam, config.weights)

    @jax.jit
    def init(key: Key) -> tuple[Params, PyTree]:
        model_key, weights_key = jax.random.split(key)
        params, state = model.init(model_key)
        return draw(params, key=weights_key), state

    # The recipe's loss reads widths from the weights.
    basis = as_configured._replace(model=model, init=init)
    folder = config.folder() / f"width_{width}"
    together = len(config.densities) * config.seeds
    return Cells(config, folder, together=together, basis=basis, renew=renewals(config, basis))


def renewals(config: Config, basis: problems.Basis) -> Mapping[str, Renew]:
    """Return the changes of untrained weights between epochs.

    Recycling of a fifth comes every 10 of some 250 epochs in the authors' configurations, here after every tenth of the
    training but its end; IteRand every 300 steps of 100 epochs, some 130 times, here after every epoch.
    """
    epoch = basis.recipe.steps_per_epoch
    tenth = epoch * max(1, round(config.epochs / 10))
    redraw = getattr(reparam, config.weights)

    def recycling(latent: Latent, mask: Mask, key: Key) -> Latent:
        return reparam.recycle(latent, 0.2, mask=mask)

    def iterand(latent: Latent, mask: Mask, key: Key) -> Latent:
        return reparam.rerandomise(latent, key=key, mask=mask, redraw=redraw)

    return {
        "edge_popup+recycling": functools.partial(
            _renew, recycling, schedules.every(tenth, start=tenth, stop=max(tenth, basis.steps - 1))
        ),
        "edge_popup+iterand": functools.partial(_renew, iterand, schedules.every(epoch)),
    }


def _renew(how: Callable[[Latent, Mask, Key], Latent], due: Any, lane: Lane, step: jax.Array) -> Lane:
    _, count, density = lane.state

    def renewed(latent: Latent) -> Latent:
        mask = reparam.edge_popup(density).mask(latent, count=count)
        return how(latent, mask, jax.random.fold_in(lane.key, step))

    return lane._replace(params=jax.lax.cond(due(step), renewed, lambda latent: latent, lane.params))
