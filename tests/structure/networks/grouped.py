"""Depthwise and grouped convolutions."""

import jax

from tests.structure.networks._base import data, group, network
from tests.structure.networks._layers import (
    batch_norm,
    conv,
    conv_out,
    conv_shapes,
    dense,
    dense_shapes,
    depthwise,
    norm_places,
    norm_shapes,
    out,
    pool_mean,
)

relu = jax.nn.relu

_IMAGES = data(2, 6, 7, 3)


@network(
    variables={
        "expand": conv_shapes(3, 6, 1),
        "bn1": norm_shapes(6),
        "depth": {"kernel": (3, 3, 1, 6), "bias": (6,)},
        "bn2": norm_shapes(6),
        "project": conv_shapes(6, 3, 1),
        "stem": conv_shapes(4, 3, 1),
        "head": dense_shapes(3, 2),
    },
    inputs=(data(2, 5, 6, 4),),
    groups=(
        group(6, f"{conv_out('expand', 'depth')} {norm_places('bn1', 'bn2')} project/kernel:2"),
        group(3, f"{conv_out('stem', 'project')} expand/kernel:2 head/kernel:0"),
    ),
    frozen=f"depth/kernel:01 stem/kernel:2 {out('head')}",
)
def inverted_residual(v, x):
    x = conv(v["stem"], x)
    h = jax.nn.relu6(batch_norm(v["bn1"], conv(v["expand"], x)))
    h = jax.nn.relu6(batch_norm(v["bn2"], depthwise(v["depth"], h)))
    return dense(v["head"], pool_mean(x + conv(v["project"], h)))


@network(
    variables={
        "stem": conv_shapes(3, 4),
        "depth": {"kernel": (3, 3, 1, 8), "bias": (8,)},
        "head": dense_shapes(8, 2),
    },
    inputs=(_IMAGES,),
    groups=(group(4, f"{conv_out('stem')} depth/kernel:3/2 depth/bias:0/2 head/kernel:0/2"),),  # outputs 2c, 2c + 1
    frozen=f"stem/kernel:012 depth/kernel:01 {out('head')}",
)
def depthwise_multiplier(v, x):
    return dense(v["head"], pool_mean(relu(depthwise(v["depth"], relu(conv(v["stem"], x))))))


def _grouped(name, groups, n_in, n_out):
    """Return a network with a grouped convolution, of which the same offsets of each group stay."""

    def apply(v, x):
        x = relu(conv(v["stem"], x))
        return dense(v["head"], pool_mean(relu(conv(v["grouped"], x, groups=groups))))

    apply.__name__ = name
    return network(
        variables={
            "stem": conv_shapes(3, groups * n_in),
            "grouped": conv_shapes(n_in, groups * n_out),
            "head": dense_shapes(groups * n_out, 2),
        },
        inputs=(_IMAGES,),
        groups=(
            group(n_in, f"{conv_out('stem')} grouped/kernel:2"),
            group(n_out, f"{conv_out('grouped')} head/kernel:0"),
        ),
        frozen=f"stem/kernel:012 grouped/kernel:01 {out('head')}",
    )(apply)


GROUPED = (
    _grouped("grouped_convolution_2", 2, 3, 4),
    _grouped("grouped_convolution_3", 3, 4, 2),
    _grouped("grouped_convolution_of_equal_sizes", 3, 3, 3),
)


@network(
    variables={
        "stem": conv_shapes(3, 6),
        "pairs": conv_shapes(3, 6),
        "triples": conv_shapes(2, 6),
        "head": dense_shapes(6, 2),
    },
    inputs=(_IMAGES,),
    # Between the two: {0,3} {1,4} {2,5} stay together, and so do {0,2,4} {1,3,5}: only all six could go.
    groups=(
        group(3, f"{conv_out('stem')} pairs/kernel:2"),
        group(2, f"{conv_out('triples')} head/kernel:0"),
    ),
    frozen=f"stem/kernel:012 {conv_out('pairs')} pairs/kernel:01 triples/kernel:012 {out('head')}",
)
def grouped_in_two_and_three(v, x):
    x = relu(conv(v["pairs"], relu(conv(v["stem"], x)), groups=2))
    return dense(v["head"], pool_mean(relu(conv(v["triples"], x, groups=3))))
