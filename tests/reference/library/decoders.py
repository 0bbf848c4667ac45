"""The library's side of traces that prune a decoder block by block."""

import functools

import jax.numpy as jnp
import numpy as np

from jaxticket import models
from jaxticket.methods.finetune import blockwise
from jaxticket.methods.finetune.sparsegpt import sparsegpt
from tests.reference.decoder import DEPTH, HEADS, HIDDEN, LAYERS, SHARED, VOCABULARY, WIDTH, Decoder, by_block
from tests.reference.library.classifier import count

_PLACES = {
    "self_attn.q_proj": ("attention", "query"),
    "self_attn.k_proj": ("attention", "key"),
    "self_attn.v_proj": ("attention", "value"),
    "self_attn.o_proj": ("attention", "out"),
    "mlp.gate_proj": ("mlp", "gate"),
    "mlp.up_proj": ("mlp", "hidden"),
    "mlp.down_proj": ("mlp", "output"),
}
_HEADS = {"query": (WIDTH, HEADS, DEPTH), "key": (WIDTH, SHARED, DEPTH), "value": (WIDTH, SHARED, DEPTH)}
_SHAPES = {**_HEADS, "out": (HEADS, DEPTH, WIDTH)}


def network():
    """The model, its parameters outside the blocks, its blocks and the calibration batches: a sequence each."""
    source = Decoder()
    sizes = {"vocabulary": VOCABULARY, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "hidden": HIDDEN}
    model = models.decoder(**sizes, key_value_heads=SHARED, depth=DEPTH)
    array = lambda x: jnp.asarray(x, jnp.float32)
    blocks = []
    for number, (linears, norms) in enumerate(zip(source.layers, source.norms, strict=True), 1):
        block = {"norm1": {"scale": array(norms[0])}, "norm2": {"scale": array(norms[1])}, "attention": {}, "mlp": {}}
        for name, (part, leaf) in _PLACES.items():
            kernel = linears[name].T
            block[part][leaf] = {"kernel": array(kernel.reshape(_SHAPES.get(leaf, kernel.shape)))}
        blocks.append((f"block{number}", block))
    outer = {"token": {"embedding": array(source.embedding)}}
    return model, outer, blocks, [sequence[None] for sequence in source.tokens]


def as_stored(block):
    """Return the kernels or masks of a block as (outputs, inputs), by the names of transformers."""
    inputs = {"out": HEADS * DEPTH}
    matrix = lambda leaf, x: np.asarray(x).reshape(inputs.get(leaf, x.shape[0]), -1).T
    return {name: matrix(leaf, block[part][leaf]["kernel"]) for name, (part, leaf) in _PLACES.items()}


def prune(method):
    model, outer, blocks, batches = network()
    pruned = list(blockwise.prune_blocks(model.stages, outer, blocks, batches, method))
    mask = by_block([as_stored(block.mask) for block in pruned])
    weights = by_block([as_stored(block.params) for block in pruned])
    return mask, weights


def wanda_blocks(density, group=None):
    mask, _ = prune(blockwise.by_wanda(density, group=group))
    return [{"mask": mask, "living": count(mask)}]


def sparsegpt_blocks(density, blocksize, prunen=0, prunem=None):
    options = {"block": blocksize, "group": prunem, "sequential": False}
    mask, weights = prune(functools.partial(sparsegpt, density=1 - prunen / prunem if prunem else density, **options))
    return [{"mask": mask, "living": count(mask), "weights": weights}]


LIBRARY = {"wanda_blocks": wanda_blocks, "sparsegpt_blocks": sparsegpt_blocks}
