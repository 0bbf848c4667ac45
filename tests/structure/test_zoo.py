"""Every network of the zoo: what its trace finds, and that it runs at half the widths."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import models, structure
from tests.structure import _removal


def images(size, channels=3):
    return jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)


TOKENS = jax.ShapeDtypeStruct((2, 9), jnp.int32)
SMALL = {"vocabulary": 50, "layers": 2, "width": 16}
# name -> model, inputs, groups, inexact ones among them
ZOO = {
    "efficientnet_lite0": (models.efficientnet_lite0, images(64), 24, 0),
    "lenet_300_100": (models.lenet_300_100, images(28, 1), 2, 0),
    "conv_2": (models.conv_2, images(32), 4, 0),
    "conv_4": (models.conv_4, images(32), 6, 0),
    "conv_6": (models.conv_6, images(32), 8, 0),
    "residual_mlp": (models.residual_mlp, images(28, 1), 17, 1),
    "supernet": (models.supernet, images(28, 1), 10, 0),
    "resnet_18": (models.resnet_18, images(32), 12, 0),
    "resnet_20": (models.resnet_20, images(32), 12, 0),
    "resnet_32": (models.resnet_32, images(32), 18, 0),
    "resnet_50": (models.resnet_50, images(64), 37, 0),
    "resnet_56": (models.resnet_56, images(32), 30, 0),
    "slim_resnet": (lambda: models.slim_resnet(4, [[(3, 6)], [(5, 8), (5, 7)]]), images(32), 6, 0),
    "wide_resnet": (models.wide_resnet, images(32), 16, 0),
    "vgg_16_bn": (models.vgg_16_bn, images(32), 13, 0),
    "vit_tiny": (models.vit_tiny, images(224), 49, 1),
    "vit_small": (models.vit_small, images(224), 49, 1),
    "bert": (lambda: models.bert(heads=2, **SMALL), TOKENS, 8, 0),
    "gpt": (lambda: models.gpt(heads=2, context=16, **SMALL), TOKENS, 9, 1),
    "decoder": (lambda: models.decoder(heads=4, key_value_heads=2, hidden=24, **SMALL), TOKENS, 9, 1),
    "lstm": (lambda: models.lstm(vocabulary=50, width=12), TOKENS, 3, 0),
    "recurrent": (lambda: models.recurrent(cell="gru", widths=(12, 10, 8), skips=[(1, 3)]), TOKENS, 4, 0),
    "slak": (lambda: models.slak(kernels=(9, 5), depths=(1, 2), dims=(6, 8), small=3), images(32), 5, 2),
}
SAMPLE = ("conv_2", "gpt", "lstm", "resnet_20", "vgg_16_bn")


def test_the_zoo_is_whole():
    others = {"load_efficientnet_lite0", "merge_kernels", "minilm", "sentence_embeddings"}
    others |= {"new_checkpoint", "read_checkpoint", "write_checkpoint"}
    assert {name for name in models.__all__ if name[0].islower()} - others <= set(ZOO)


def cases():
    for name in ZOO:
        for train in (False, True):
            marks = () if name in SAMPLE and train else pytest.mark.slow
            yield pytest.param(name, train, marks=marks, id=f"{name}-{'train' if train else 'eval'}")


def traced(name, train):
    make, x, *_ = ZOO[name]
    model = make()
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    apply = lambda v, x, key: model.apply(v["params"], v["state"], x, train=train, key=key)
    variables = {"params": params, "state": state}
    groups = structure.trace(apply, variables, x, jax.random.key(0), outputs=operator.itemgetter(0))
    return apply, variables, x, groups


@pytest.mark.parametrize(("name", "train"), list(cases()))
def test_a_network_runs_at_half_its_widths(name, train):
    apply, variables, x, groups = traced(name, train)
    _, _, count, inexact = ZOO[name]
    assert (len(groups), sum(g.inexact is not None for g in groups)) == (count, inexact)
    assert groups.unknown == groups.unused == ()
    kept = {g.name: np.arange(g.width) < max(1, g.width // 2) for g in groups if g.inexact is None}
    leaves, treedef = jax.tree.flatten(variables)
    shapes = groups.shapes(kept).values()
    smaller = [jax.ShapeDtypeStruct(shape, leaf.dtype) for shape, leaf in zip(shapes, leaves, strict=True)]
    run = structure.replay(apply, kept, groups, outputs=operator.itemgetter(0))
    logits, state = jax.eval_shape(run, jax.tree.unflatten(treedef, smaller), x, jax.random.key(0))
    whole, _ = jax.eval_shape(apply, variables, x, jax.random.key(0))
    assert logits.shape == whole.shape
    new = {"params": jax.tree.unflatten(treedef, smaller)["params"], "state": state}
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, jax.tree.unflatten(treedef, smaller))
    # What is inexact stays: in SLaK the channels on which the depthwise convolutions work.
    assert groups.macs(kept) < (0.9 if name == "slak" else 0.5) * groups.macs()


def perturbed(tree, seed):
    """Random variables: initial biases of zero would hide what they do."""
    leaves, treedef = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(treedef, [jnp.asarray(np.abs(rng.normal(size=x.shape)) / 4 + x, x.dtype) for x in leaves])


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["lenet_300_100", "resnet_20", "bert", "gpt", "decoder", "lstm"])
def test_a_network_shrinks_exactly(name, train):
    make, x, *_ = ZOO[name]
    model = make()
    params, state = model.init(jax.random.key(0))
    variables = {"params": perturbed(params, 1), "state": perturbed(state, 2)}
    rng = np.random.default_rng(3)
    inputs = rng.integers(1, 50, x.shape) if x.dtype == jnp.int32 else rng.normal(size=x.shape)
    apply = lambda v, x, key: model.apply(v["params"], v["state"], x, train=train, key=key)
    out, gradient = _removal.errors(
        apply, variables, (jnp.asarray(inputs, x.dtype), jax.random.key(0)), outputs=operator.itemgetter(0)
    )
    assert out <= 1e-5
    assert gradient <= 1e-4
