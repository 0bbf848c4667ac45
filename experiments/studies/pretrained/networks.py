"""The pretrained networks, the examples that they are measured on, and those that choices may see."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runs.config import require
from experiments.studies.pretrained.config import Config
from experiments.training.texts import sample
from jaxticket import data, models, structure
from jaxticket.errors import InputError
from jaxticket.loops import soups
from jaxticket.methods.channels.layers import remove_blocks
from jaxticket.typing import PyTree

Step = tuple[structure.Groups, float | structure.Budget]  # groups among which channels are chosen, and what they keep
_TRAINED = 50_000  # images of CIFAR-10 to train on
_SIDE = 224  # pixels, as in the training of EfficientNet-Lite0
_IMAGES, _SENTENCES = 50, 40  # computed together


@dataclasses.dataclass(frozen=True)
class Network:
    """A pretrained network, and what is asked of it.

    Attributes:
      variables: the pretrained variables.
      apply: (variables, batch) -> logits or embeddings, in evaluation mode.
      groups: its groups.
      steps: part asked for -> the groups to choose among, one after another.
      tested: batches on which a network is compared with the dense one.
      calibration: seed -> other batches.
      recalibrated: batches -> the dense variables with batch statistics of these; None without such statistics.
      likeness: (outputs of the dense network, outputs) -> how alike they are, 1 for the same.
      timed: the sizes of batches to time.
    """

    variables: PyTree
    apply: Callable[[PyTree, jax.Array], jax.Array]
    groups: structure.Groups
    steps: Callable[[float], Sequence[Step]]
    tested: Sequence[jax.Array]
    calibration: Callable[[int], Sequence[jax.Array]]
    recalibrated: Callable[[Sequence[jax.Array]], PyTree] | None
    likeness: Callable[[np.ndarray, np.ndarray], float]
    timed: tuple[int, ...]

    def outputs(self, variables: PyTree, batches: Sequence[jax.Array]) -> np.ndarray:
        """Return the outputs for all examples of some batches."""
        run = jax.jit(self.apply)
        return np.concatenate([np.asarray(run(variables, batch)) for batch in batches])

    def inputs(self, size: int) -> jax.Array:
        """Return a batch of that size, of tested examples."""
        examples = np.concatenate([np.asarray(batch) for batch in self.tested])
        return jnp.asarray(np.resize(examples, (size, *examples.shape[1:])))


def load(config: Config) -> Network:
    """Load the network of a configuration and its examples. Raises InputError for files that are not there."""
    return {"efficientnet_lite0": _efficientnet, "minilm": _minilm}[config.network](config)


def same_class(dense: np.ndarray, logits: np.ndarray) -> float:
    """Return the part of the examples that are given the same class."""
    return float(np.mean(dense.argmax(1) == logits.argmax(1)))


def rank_correlation(dense: np.ndarray, embeddings: np.ndarray) -> float:
    """Return Spearman's rank correlation of the similarities of all pairs of sentences.

    >>> dense = np.eye(3)[[0, 1, 1]] + [[0, 0, 0], [0, 0, 0.1], [0.2, 0, 0]]
    >>> round(rank_correlation(dense, 2 * dense), 6)
    1.0
    """
    pairs = np.triu_indices(len(dense), 1)
    ranks = [np.argsort(np.argsort((e @ e.T)[pairs], kind="stable")) for e in (dense, embeddings)]
    return float(np.corrcoef(*ranks)[0, 1])


def _efficientnet(config: Config) -> Network:
    if config.weights is None or config.data_dir is None:
        raise InputError(
            "--network efficientnet_lite0 needs --weights with the file efficientnet_lite0.npz, and --data-dir with "
            "the folder of cifar10_jpeg.npz"
        )
    require(config.calibration <= _TRAINED, config, "calibration", f"at most the {_TRAINED} training images")
    model, file = models.efficientnet_lite0(), config.data_dir / "cifar10_jpeg.npz"
    params, state = models.load_efficientnet_lite0(config.weights)

    def apply(variables: PyTree, x: jax.Array) -> jax.Array:
        return model.apply(variables["params"], variables["state"], x, train=False, key=None)[0]

    def recalibrated(batches: Sequence[jax.Array]) -> PyTree:
        train = lambda params, state, x: model.apply(params, state, x, train=True, key=None)[1]
        return {"params": params, "state": soups.recalibrate(params, state, train, batches)}

    def calibration(seed: int) -> Sequence[jax.Array]:
        rows = np.random.default_rng([config.seed, seed]).choice(_TRAINED, config.calibration, replace=False)
        return _enlarged(data.read_jpegs(file, "train", rows=rows)[0])

    variables = {"params": params, "state": state}
    groups = structure.trace(apply, variables, jax.ShapeDtypeStruct((1, _SIDE, _SIDE, 3), jnp.float32))
    return Network(
        variables,
        apply,
        groups,
        steps=lambda part: [(groups, structure.Budget(1 - part, groups.macs))],
        tested=_enlarged(data.read_jpegs(file, "test", rows=range(config.images))[0]),
        calibration=calibration,
        recalibrated=recalibrated,
        likeness=same_class,
        timed=(1, 16),
    )


def _enlarged(images: np.ndarray) -> list[jax.Array]:
    """Return batches of images as EfficientNet-Lite0 takes them."""
    shape = (_SIDE, _SIDE, images.shape[-1])
    batches = [images[i : i + _IMAGES] for i in range(0, len(images), _IMAGES)]
    large = (jax.image.resize(jnp.asarray(b, jnp.float32), (len(b), *shape), "cubic") for b in batches)
    return [(jnp.clip(b, 0, 255) - 127) / 128 for b in large]


def _minilm(config: Config) -> Network:
    pretrained = models.minilm(config.weights)
    texts = sample(config.text, config.sentences + config.calibration, seed=config.seed)
    tokens = pretrained.tokens(texts)

    def apply(params: PyTree, x: jax.Array) -> jax.Array:
        return models.sentence_embeddings(pretrained.model.apply(params, None, x, train=False, key=None)[0], x)

    def batches(tokens: np.ndarray) -> list[jax.Array]:
        return [jnp.asarray(tokens[i : i + _SENTENCES]) for i in range(0, len(tokens), _SENTENCES)]

    def calibration(seed: int) -> Sequence[jax.Array]:
        others = tokens[config.sentences :]
        rows = np.random.default_rng([config.seed, seed]).choice(
            len(others), max(1, len(others) * 3 // 4), replace=False
        )
        return batches(others[rows])

    groups = structure.trace(apply, pretrained.params, jax.ShapeDtypeStruct((1, tokens.shape[1]), jnp.int32))
    heads = groups.only([g.name for g in groups if g.name.endswith("/attention/query/kernel:1")])
    hidden = groups.only([g.name for g in groups if g.name.endswith("/mlp/hidden/kernel:1")])
    return Network(
        pretrained.params,
        apply,
        groups,
        steps=lambda part: [(heads, 1 - config.heads), (hidden, 1 - part)],
        tested=batches(tokens[: config.sentences]),
        calibration=calibration,
        recalibrated=None,
        likeness=rank_correlation,
        timed=(1, 32),
    )


def without_layers(params: PyTree, count: int) -> dict[tuple[int, ...], PyTree]:
    """Return the parameters of MiniLM without some layers, for each choice of so many: those that go, from 1."""
    choices = itertools.combinations(range(1, len(params["blocks"]) + 1), count)
    return {gone: remove_blocks(params, tuple(f"blocks/block{i}" for i in gone)) for gone in choices}
