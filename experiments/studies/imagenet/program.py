"""The compiled functions of a training on a mesh, and the layout of their arrays."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import jaxticket as jt
from experiments.studies.imagenet.config import Config
from experiments.studies.imagenet.networks import NETWORKS
from jaxticket import filters, registry, sharding
from jaxticket.typing import Key, Mask, Params, PyTree

# Of the channels of ImageNet's training images, as fractions of 255.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Carry(NamedTuple):
    """The values that a step passes to the next one."""

    params: Params
    state: PyTree  # batch statistics, or None
    opt_state: PyTree


class Average(NamedTuple):
    """The state of `weights_average`."""

    average: Params


class Program:
    """A training as functions that are compiled once, for every level and every mask.

    Attributes:
      steps: of a training, from its start.
      per_epoch: whole batches of the training examples.
      places: the shardings of the values that `step` passes on.
      carry: its ShapeDtypeStructs, with them.
      batch: those of the batch that it reads.
      init(key) -> (params, state): fresh ones, on the mesh.
      begin(params, state, mask) -> Carry: with a fresh optimizer; the plan makes the mask where it is None.
      step(carry, batch, shift) -> (Carry, {"loss", "accuracy"}): donates the carry. A fresh optimizer that began at
        step `shift` sees the learning rate from there on.
      full_mask(params) -> a mask that keeps everything.
      correct(params, state, batch, valid) -> the number of valid examples that are classified right.
    """

    def __init__(
        self, config: Config, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh, *, examples: int, classes: int
    ):
        network = NETWORKS[config.model]
        self._config, self._model = config, network.make(classes, config.image_size)
        self.per_epoch = examples // config.batch_size
        self.steps = config.epochs * self.per_epoch
        everywhere = NamedSharding(mesh, PartitionSpec())
        params, state = jax.eval_shape(self._model.init, jax.random.key(0))
        layout = network.shardings(params, mesh)
        states = jax.tree.map(lambda _: everywhere, state)
        self.places = Carry(layout, states, sharding.state_shardings(self.transform(), params, layout))
        rows, side = sharding.batch(mesh), config.image_size
        self.batch = {
            "image": jax.ShapeDtypeStruct((config.batch_size, side, side, 3), jnp.uint8, sharding=rows),
            "label": jax.ShapeDtypeStruct((config.batch_size,), jnp.int32, sharding=rows),
        }
        shapes = jax.eval_shape(functools.partial(self._begin, mask=None), params, state)
        self.carry: Carry = laid_out(shapes, self.places)
        self.init = jax.jit(self._model.init, out_shardings=(layout, states))
        self.begin = jax.jit(self._begin, out_shardings=self.places)
        self.step = jax.jit(self._step, donate_argnums=0, out_shardings=(self.places, everywhere))
        self.correct = jax.jit(self._correct, out_shardings=everywhere)
        self.full_mask = jax.jit(
            functools.partial(filters.full_mask, where=filters.weights()), out_shardings=self.places.opt_state.mask
        )

    def learning_rate(self, step: int | jax.Array) -> jax.Array:
        """Return the learning rate at this step of a training."""
        config = self._config
        warmup = round(config.warmup_epochs * self.per_epoch)
        return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, self.steps)(step)

    def inner(self, shift: int | jax.Array = 0) -> optax.GradientTransformation:
        """The optimizer without the mask."""
        config, weights = self._config, filters.weights()
        rate = lambda count: self.learning_rate(count + shift)
        if config.optimizer == "adamw":
            chosen = optax.adamw(rate, weight_decay=config.weight_decay, mask=weights)
        else:
            decay = optax.add_decayed_weights(config.weight_decay, mask=weights)
            chosen = optax.chain(decay, optax.sgd(rate, momentum=0.9))
        return optax.chain(chosen, weights_average(config.ema)) if config.ema else chosen

    def transform(self, shift: int | jax.Array = 0, mask: Mask | None = None) -> optax.GradientTransformation:
        """The optimizer under the plan of --method, or under a mask that is given."""
        return jt.sparsify(self.inner(shift), self.plan(), key=jax.random.key(self._config.seed), mask=mask)

    def plan(self) -> jt.Plan:
        """The plan of --method; with imp the mask is given, and stays."""
        config = self._config
        if config.method == "imp":
            return jt.static()
        apply = lambda params, x: self._model.apply(params, None, x, train=False, key=None)[0]
        loss = lambda logits, batch: _cross_entropy(logits, batch["label"], smoothing=0.0)
        inputs = lambda batch: batch["image"]
        setting = registry.Setting(config.density, self.steps, apply, loss, inputs, batches=())
        return registry.get(config.method).make(setting)

    def evaluated(self, carry: Carry) -> Params:
        """Return the weights to evaluate: their average under the mask, if --ema keeps one."""
        if not self._config.ema:
            return carry.params
        return jt.apply_mask(optax.tree_utils.tree_get(carry.opt_state, "average"), jt.mask_of(carry.opt_state))

    def placed(self, params: Params) -> Params:
        """Return weights on the mesh, also those that were loaded onto one device."""
        on_mesh = lambda p, s: p if p.sharding == s else jax.device_put(np.asarray(p), s)
        return jax.tree.map(on_mesh, params, self.places.params)

    def _begin(self, params: Params, state: PyTree, mask: Mask | None) -> Carry:
        params, opt_state = jt.init(self.transform(mask=mask), params)
        return Carry(params, state, opt_state)

    def _step(self, carry: Carry, batch: PyTree, shift: jax.Array) -> tuple[Carry, dict[str, jax.Array]]:
        return self.step_with(self.transform(shift), carry, batch)

    def step_with(
        self, tx: optax.GradientTransformation, carry: Carry, batch: PyTree
    ) -> tuple[Carry, dict[str, jax.Array]]:
        """Return a step by this optimizer."""

        def loss(params: Params) -> tuple[jax.Array, tuple[PyTree, jax.Array]]:
            logits, state = self._apply(params, carry.state, batch["image"], train=True)
            right = jnp.mean(jnp.argmax(logits, -1) == batch["label"])
            return _cross_entropy(logits, batch["label"], smoothing=self._config.label_smoothing), (state, right)

        (value, (state, right)), grads = jax.value_and_grad(loss, has_aux=True)(carry.params)
        updates, opt_state = tx.update(grads, carry.opt_state, carry.params)
        return Carry(optax.apply_updates(carry.params, updates), state, opt_state), {"loss": value, "accuracy": right}

    def _correct(self, params: Params, state: PyTree, batch: PyTree, valid: jax.Array) -> jax.Array:
        logits, _ = self._apply(params, state, batch["image"], train=False)
        return jnp.sum((jnp.argmax(logits, -1) == batch["label"]) & valid)

    def _apply(self, params: Params, state: PyTree, images: jax.Array, *, train: bool) -> tuple[jax.Array, PyTree]:
        """Return logits in float32, computed in --precision."""
        dtype = jnp.dtype(self._config.precision)
        mean, deviation = (255 * jnp.float32(values).reshape(1, 1, 1, 3) for values in (_MEAN, _DEVIATION))
        low = jax.tree.map(lambda p: p.astype(dtype), params)
        x = ((images - mean) / deviation).astype(dtype)
        logits, state = self._model.apply(low, state, x, train=train, key=None)
        return logits.astype(jnp.float32), state


def weights_average(decay: float) -> optax.GradientTransformation:
    """An exponential moving average of the weights, from the first ones on. Inside `sparsify`, last in a chain."""

    def update(updates: Params, state: Average, params: Params) -> tuple[Params, Average]:
        return updates, Average(
            jax.tree.map(lambda a, p, u: decay * a + (1 - decay) * (p + u), state.average, params, updates)
        )

    return optax.GradientTransformation(lambda params: Average(jax.tree.map(jnp.array, params)), update)


def laid_out(shapes: PyTree, places: PyTree) -> PyTree:
    """Return ShapeDtypeStructs with these shardings."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, places)


def seed_of(key: Key) -> int:
    """Return a number that stands for a key: of the order of the examples, and of the training itself."""
    return int(jax.random.bits(key, dtype=jnp.uint32))


def _cross_entropy(logits: jax.Array, labels: jax.Array, *, smoothing: float) -> jax.Array:
    targets: Any = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))
