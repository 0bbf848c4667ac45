"""The problem of an experiment: a network, three splits of data, and the compiled training."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiments.runs.config import Rewinding, Training, require
from experiments.training.levels import TrainAllFn, train_all
from experiments.training.trainer import Trainer, is_stacked
from jaxticket import data, sharding, tickets, training
from jaxticket.errors import InputError
from jaxticket.loops import soups
from jaxticket.typing import Params, ProgressFn, PyTree

_EVALUATED_TOGETHER = 1000  # examples
_FLAT = ("lenet_300_100", "residual_mlp")  # networks whose inputs may be flat
_RESHAPED = ("slim_resnet", "supernet", "slak")  # networks whose study makes images of flat inputs
_RECALIBRATED = 0.2  # of the training examples, as Zimmer et al. (2024) take


class Basis(NamedTuple):
    """The parts that every experiment trains and measures: a network, three splits of data, and a step."""

    dataset: data.Dataset
    model: Any
    init: Callable[[jax.Array], tuple[Params, PyTree]]  # key -> parameters, model state
    recipe: training.Recipe
    evaluate: Callable[..., dict[str, Any]]  # (parameters, model state, splits=("validation", "test")) -> accuracies
    steps: int  # of one training from its start


class Problem(NamedTuple):
    """The parts of data and model that a search needs."""

    dataset: data.Dataset
    init: Callable[[jax.Array], tuple[Params, PyTree]]  # key -> parameters, model state
    trainer: Trainer  # of all replicates in one program, or of one at a time
    evaluate: Callable[[Params, PyTree], dict[str, Any]]
    fresh: Callable[[Params], PyTree]  # parameters -> fresh optimizer state
    steps: int  # of one training from its start
    rewind_step: int
    narrow: Callable[[int], Any]  # width -> the network in another width; `trainer` trains it too

    @property
    def train(self) -> TrainAllFn:
        """The function that trains from the rewind step to the end, and evaluates."""
        return train_all(self.trainer, steps=self.steps - self.rewind_step, evaluate=self.evaluate)


def basis(config: Training, dataset: data.Dataset | None = None, model: Any = None) -> Basis:
    """Return the network, the data and the recipe of this configuration; the first two may be given.

    Raises InputError for values that do not fit the data or, unless these are given, the devices.
    """
    dataset = load(config) if dataset is None else dataset
    model = make_model(config, dataset) if model is None else model
    steps = config.epochs * (len(dataset.train.y) // config.batch_size)
    require(steps > 0, config, "batch_size", f"at most the {len(dataset.train.y)} training examples")
    require(config.warmup < steps, config, "warmup", f"below the {steps} steps of a training")

    def loss(params: Params, state: PyTree, batch: data.Split, key: jax.Array) -> tuple[jax.Array, PyTree]:
        x, key = batch.x, key
        if config.augment == "crop-and-flip":
            augment_key, key = jax.random.split(key)
            x = data.augment.crop_and_flip(x, key=augment_key)
        logits, state = model.apply(params, state, x, train=True, key=key)
        return cross_entropy(logits, batch.y), state

    mesh = data_mesh(config)
    recipe = training.Recipe(
        loss=loss,
        data=dataset.train if mesh is None else spread(dataset.train, mesh),
        learning_rate=learning_rate(config, steps),
        batch_size=config.batch_size,
        optimizer=functools.partial(optimizer, config),
        mesh=mesh,
        reduction=config.reduction,
        count=len(dataset.train.y),
    )
    if config.on_nan == "skip":
        recipe = training.nonfinite.skip(recipe)
    return Basis(dataset, model, jax.jit(model.init), recipe, evaluation(model, dataset), steps)


def check_flags(config: Training) -> None:
    """Raise InputError for flags that do not fit each other or the devices, before any data are loaded."""
    fits = config.data == "cifar10" or config.model in (*_FLAT, *_RESHAPED)
    require(fits, config, "model", f"{_FLAT[0]} for the flat images of {config.data}")
    check_devices(config)


def check_devices(config: Training) -> None:
    """Raise InputError for flags that do not fit the devices."""
    require(not _is_shared(config) or config.placement in ("auto", "data"), config, "placement", "data or auto here")
    if _is_shared(config) or config.placement == "data":
        devices = jax.device_count()
        require(config.batch_size % devices == 0, config, "batch_size", f"a multiple of the {devices} devices")
        divides = config.reduction == "any" or sharding.SHARDS % devices == 0
        require(divides, config, "reduction", "any on so many devices")


def _is_shared(config: Training) -> bool:
    """Whether the devices must share the batches of one training, whatever its placement."""
    return jax.process_count() > 1 or config.reduction == "fixed"


def data_mesh(config: Training) -> Mesh | None:
    """Return all devices, where they share the batches of one training; None where trainings run side by side."""
    if not _is_shared(config) and config.placement != "data":
        return None
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def spread(split: data.Split, mesh: Mesh) -> data.Split:
    """Return the examples over the devices of all processes, the last repeated until each device holds as many."""
    by_example = NamedSharding(mesh, PartitionSpec("data"))

    def place(x: jax.Array) -> jax.Array:
        rows = np.asarray(x)
        rows = np.concatenate([rows, rows[-1:].repeat(-len(rows) % mesh.size, axis=0)])
        return jax.make_array_from_callback(rows.shape, by_example, lambda index: rows[index])

    return jax.tree.map(place, split)


def place(config: Training, model: Any, replicates: int) -> training.Placement:
    """Return the placement of so many replicates of this network: as --placement says, or the fastest."""
    placement = training.place(jax.eval_shape(model.init, jax.random.key(0))[0], replicates)
    if data_mesh(config):
        why = f"one after the other, each on {jax.device_count()} devices of {jax.process_count()} process(es)"
        return placement._replace(batching="sequence", why=why)
    if config.placement == "auto":
        return placement
    return placement._replace(batching=config.placement, why=f"by {config.placement}, as --placement says")


def build(
    config: Rewinding,
    *,
    replicates: int = 1,
    dataset: data.Dataset | None = None,
    checkpoint: tickets.StepCheckpoint | None = None,
    progress: ProgressFn | None = None,
) -> Problem:
    """Return the problem of this configuration, for so many replicates at once; the data may be given.

    Raises InputError for values that do not fit the data.
    """
    dataset, model, init, recipe, evaluate, steps = basis(config, dataset)
    require(config.rewind_step < steps, config, "rewind_step", f"below the {steps} steps of a training")
    placement = place(config, model, replicates)
    together = replicates > 1 and is_stacked(placement)
    looks = {"checkpoint": checkpoint, "progress": progress, "on_nan": config.on_nan}
    trainer = Trainer(
        training.fit(recipe, placement=placement if together else None, **looks),
        lanes=replicates if together else 1,
        stacked=together,
        where=f"replicates {placement.why}",
    )
    return Problem(
        dataset=dataset,
        init=init,
        trainer=trainer,
        evaluate=evaluate,
        fresh=recipe.fresh,
        steps=steps,
        rewind_step=config.rewound_to(steps),
        narrow=functools.partial(make_model, config, dataset),
    )


def load(config: Training) -> data.Dataset:
    """Load the data set, in the shape that the network takes.

    Raises InputError for flags that do not fit, before anything is read, or if files are missing.
    """
    check_flags(config)
    splits: dict[str, Callable[[], data.Dataset]] = {
        "mnist5k": lambda: data.mnist5k(seed=config.seed, validation=config.validation, test=config.test),
        "fashion_mnist": lambda: data.fashion_mnist(
            seed=config.seed, validation=config.validation, folder=config.data_dir
        ),
        "cifar10": lambda: data.cifar10(seed=config.seed, validation=config.validation, folder=config.data_dir),
    }
    try:
        dataset = splits[config.data]()
    except InputError as error:
        hint = "; --data-dir names the folder of the files" if "folder" in str(error) else ""
        raise InputError(f"{error}{hint}") from error
    if not config.limit:
        return dataset
    # Each split in the place of the training examples, which is the one that is limited.
    return data.Dataset(*(data.limit(dataset._replace(train=s), config.limit, seed=config.seed).train for s in dataset))


def make_model(config: Training, dataset: data.Dataset, width: int | None = None) -> Any:
    """Return the network for images of this shape, in its own width unless another is given."""
    from jaxticket import models  # needs an extra, whose absence the command line reports

    shape = dataset.train.x.shape[1:]
    sizes = {} if width is None else {"width": width}
    features = {"features": math.prod(shape)} if config.model in _FLAT else {}
    return getattr(models, config.model)(**features, **sizes)


def learning_rate(config: Training, steps: int) -> optax.Schedule:
    """Return the learning rate over a training."""
    peak = config.learning_rate
    schedules: dict[str, optax.Schedule] = {
        "constant": optax.constant_schedule(peak),
        "cosine": optax.cosine_decay_schedule(peak, steps - config.warmup),
        "steps": optax.piecewise_constant_schedule(
            peak, {round(part * steps) - config.warmup: 0.1 for part in config.milestones}
        ),
    }
    after = schedules[config.decay]
    if not config.warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0, peak, config.warmup), after], [config.warmup])


def optimizer(config: Training, rate: optax.Schedule) -> optax.GradientTransformation:
    """Return the optimizer with this learning rate."""
    chosen = optax.adam(rate) if config.optimizer == "adam" else optax.sgd(rate, momentum=config.momentum)
    return optax.chain(optax.add_decayed_weights(config.weight_decay), chosen) if config.weight_decay else chosen


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean over examples, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def recalibration(config: Training, basis: Basis) -> soups.StateFn:
    """Return batch statistics of an averaged network, over a fifth of the training examples in their order."""
    x, size = basis.dataset.train.x, config.batch_size
    starts = range(0, max(size, int(_RECALIBRATED * len(x))) - size + 1, size)
    train = lambda params, state, x: basis.model.apply(params, state, x, train=True, key=None)[1]
    return lambda params, averaged: soups.recalibrate(params, averaged, train, [x[s : s + size] for s in starts])


def evaluation(model: Any, dataset: data.Dataset) -> Callable[..., dict[str, Any]]:
    """Return the accuracy on validation and test examples, or on named splits, a thousand at a time."""

    @jax.jit
    def correct(params: Params, state: PyTree, split: data.Split) -> jax.Array:
        logits, _ = model.apply(params, state, split.x, train=False, key=None)
        return jnp.sum(jnp.argmax(logits, -1) == split.y)

    def accuracy(params: Params, state: PyTree, split: data.Split) -> float:
        starts = range(0, len(split.y), _EVALUATED_TOGETHER)
        parts = [jax.tree.map(lambda x, s=start: x[s : s + _EVALUATED_TOGETHER], split) for start in starts]
        return sum(int(correct(params, state, part)) for part in parts) / len(split.y)

    def evaluate(params: Params, state: PyTree, splits: Sequence[str] = ("validation", "test")) -> dict[str, Any]:
        return {f"{name}_accuracy": accuracy(params, state, getattr(dataset, name)) for name in splits}

    return evaluate
