"""Recurrent networks, loops, branches, and functions that are called twice."""

import functools

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network
from tests.structure.networks._layers import dense, dense_shapes, last, out

relu = jax.nn.relu

_TIME_FIRST = data(5, 2, 3)


def _cell_shapes(gates: int, n_in: int = 3, width: int = 4):
    return {"input": (n_in, gates * width), "state": (width, gates * width), "bias": (gates * width,)}


_CELL = "cell/input:1 cell/state:01 cell/bias:0"  # the gates' channels i, i + 4, ... and the rows of the state


def _zeros(v, x):
    return jnp.zeros((x.shape[1], v["cell"]["state"].shape[0]))


def _lstm_step(v, carry, x):
    h, c = carry
    gates = x @ v["input"] + h @ v["state"] + v["bias"][None]
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f + 1.0) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


@network(
    variables={"cell": _cell_shapes(4), "head": dense_shapes(4, 2)},
    inputs=(_TIME_FIRST,),
    groups=(group(4, f"{_CELL} head/kernel:0"),),
    frozen=f"cell/input:0 {out('head')}",
)
def lstm_last_state(v, x):
    start = _zeros(v, x)
    (h, _), _ = jax.lax.scan(functools.partial(_lstm_step, v["cell"]), (start, start), x)
    return dense(v["head"], h)


@network(
    variables={"first": _cell_shapes(4), "second": _cell_shapes(4, 4, 5), "head": dense_shapes(5, 2)},
    inputs=(_TIME_FIRST,),
    groups=(
        group(4, "first/input:1 first/state:01 first/bias:0 second/input:0"),
        group(5, "second/input:1 second/state:01 second/bias:0 head/kernel:0"),
    ),
    frozen=f"first/input:0 {out('head')}",
)
def lstm_of_two_layers(v, x):
    for name in ("first", "second"):
        start = _zeros({"cell": v[name]}, x)
        _, x = jax.lax.scan(functools.partial(_lstm_step, v[name]), (start, start), x)
    return dense(v["head"], x)


@network(
    variables={"cell": _cell_shapes(3), "candidate": (4,), "start": (4,), "head": dense_shapes(4, 2)},
    inputs=(_TIME_FIRST,),
    groups=(group(4, f"{_CELL} candidate:0 start:0 head/kernel:0"),),
    frozen=f"cell/input:0 {out('head')}",
)
def gru_of_learnt_start(v, x):
    cell = v["cell"]

    def step(h, x):
        from_x, from_h = x @ cell["input"] + cell["bias"][None], h @ cell["state"]
        (xr, xz, xn), (hr, hz, hn) = (jnp.split(y, 3, axis=-1) for y in (from_x, from_h))
        r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
        n = jnp.tanh(xn + r * (hn + last(v["candidate"], hn)))
        h = (1 - z) * n + z * h
        return h, h

    start = jnp.broadcast_to(v["start"][None], (x.shape[1], v["start"].shape[0]))
    _, states = jax.lax.scan(step, start, x)
    return dense(v["head"], states.mean(0))


@network(
    variables={
        "left": {"input": (3, 4), "state": (4, 4)},
        "right": {"input": (3, 5), "state": (5, 5)},
        "head": dense_shapes(9, 2),
    },
    inputs=(_TIME_FIRST,),
    groups=(
        group(4, "left/input:1 left/state:01 head/kernel:0[:4]"),
        group(5, "right/input:1 right/state:01 head/kernel:0[4:]"),
    ),
    frozen=f"left/input:0 right/input:0 {out('head')}",
)
def rnn_in_both_directions(v, x):
    def run(cell, reverse):
        def step(h, x):
            h = jnp.tanh(x @ cell["input"] + h @ cell["state"])
            return h, h

        start = jnp.zeros((x.shape[1], cell["state"].shape[0]))
        return jax.lax.scan(step, start, x, reverse=reverse)[1]

    return dense(v["head"], jnp.concatenate([run(v["left"], False), run(v["right"], True)], axis=-1))


@network(
    variables={"cell": {"input": (3, 4), "state": (4, 4)}, "head": dense_shapes(4, 2)},
    inputs=(_TIME_FIRST, data(2, 4)),
    # the state comes as data, whose size is the caller's
    frozen="cell/input:01 cell/state:01 head/kernel:01 head/bias:0",
)
def rnn_whose_state_is_an_input(v, x, start):
    def step(h, x):
        return jnp.tanh(x @ v["cell"]["input"] + h @ v["cell"]["state"]), None

    return dense(v["head"], jax.lax.scan(step, start, x)[0])


@network(
    variables={
        "embed": dense_shapes(3, 5),
        "decay": (5,),
        "gain": {"kernel": (5, 5), "bias": (5,)},
        "head": dense_shapes(5, 2),
    },
    inputs=(_TIME_FIRST,),
    groups=(group(5, f"{out('embed', 'gain')} gain/kernel:0 decay:0 head/kernel:0"),),
    frozen=f"embed/kernel:0 {out('head')}",
)
def gated_linear_recurrence(v, x):
    x = dense(v["embed"], x)
    gain = jax.nn.sigmoid(dense(v["gain"], x))

    def step(h, parts):
        x, gain = parts
        h = last(jax.nn.sigmoid(v["decay"]), h) * h + gain * x
        return h, h

    _, states = jax.lax.scan(step, jnp.zeros_like(x[0]), (x, gain))
    return dense(v["head"], states)


@network(
    variables={
        "embed": dense_shapes(3, 5),
        "wide": {"up": dense_shapes(5, 7), "down": dense_shapes(7, 5)},
        "plain": dense_shapes(5, 5),
        "head": dense_shapes(5, 2),
    },
    inputs=(data(2, 3), jnp.asarray(True)),
    groups=(
        group(
            5,
            f"{out('embed', 'wide/down', 'plain')} wide/up/kernel:0 plain/kernel:0 head/kernel:0",
        ),
        group(7, f"{out('wide/up')} wide/down/kernel:0"),
    ),
    frozen=f"embed/kernel:0 {out('head')}",
)
def branches(v, x, flag):
    x = dense(v["embed"], x)
    x = jax.lax.cond(
        flag,
        lambda x: x + dense(v["wide"]["down"], relu(dense(v["wide"]["up"], x))),
        lambda x: jnp.tanh(dense(v["plain"], x)),
        x,
    )
    return dense(v["head"], x)


@network(
    variables={"embed": dense_shapes(3, 5), "up": dense_shapes(5, 4), "down": dense_shapes(4, 5), "head": (5, 2)},
    inputs=(data(2, 3), jnp.asarray(3)),
    groups=(
        group(5, f"{out('embed', 'down')} up/kernel:0 head:0"),
        group(4, f"{out('up')} down/kernel:0"),
    ),
    frozen="embed/kernel:0 head:1",
)
def while_loop(v, x, steps):
    def body(carry):
        i, x = carry
        return i + 1, jnp.tanh(x + dense(v["down"], relu(dense(v["up"], x))))

    return jax.lax.while_loop(lambda carry: carry[0] < steps, body, (0, dense(v["embed"], x)))[1] @ v["head"]


@network(
    variables={"embed": dense_shapes(3, 5), "layer": dense_shapes(5, 5), "scales": (3, 5), "head": dense_shapes(5, 2)},
    inputs=(data(2, 3),),
    groups=(group(5, f"{out('embed', 'layer')} layer/kernel:0 scales:1 head/kernel:0"),),
    frozen=f"embed/kernel:0 scales:0 {out('head')}",  # a step's row is taken by its number
)
def loop_of_indexed_scales(v, x):
    def body(i, x):
        scale = jax.lax.dynamic_index_in_dim(v["scales"], i, keepdims=True)
        return x + scale * relu(dense(v["layer"], x))

    return dense(v["head"], jax.lax.fori_loop(0, 3, body, dense(v["embed"], x)))


@jax.jit
def _compiled_layer(v, x):
    return relu(dense(v, x))


_CHAIN = {"fc1": dense_shapes(4, 4), "fc2": dense_shapes(4, 4), "fc3": dense_shapes(4, 4), "head": dense_shapes(4, 4)}
_CHAINED = {
    "variables": _CHAIN,
    "inputs": (data(4, 4),),
    # calls share a traced program, and their channels are their own all the same
    "groups": (
        group(4, f"{out('fc1')} fc2/kernel:0"),
        group(4, f"{out('fc2')} fc3/kernel:0"),
        group(4, f"{out('fc3')} head/kernel:0"),
    ),
    "frozen": f"fc1/kernel:0 {out('head')}",
}


@network(**_CHAINED)
def compiled_layer_called_thrice(v, x):
    for name in ("fc1", "fc2", "fc3"):
        x = _compiled_layer(v[name], x)
    return dense(v["head"], x)


@network(**_CHAINED)
def rematerialised_layers(v, x):
    for name in ("fc1", "fc2", "fc3"):
        x = jax.checkpoint(_compiled_layer)(v[name], x)
    return dense(v["head"], x)


@jax.custom_vjp
def _layer_of_own_gradient(v, x):
    return relu(dense(v, x))


def _forward(v, x):
    return _layer_of_own_gradient(v, x), (v, x)


def _backward(residuals, g):
    return jax.vjp(lambda v, x: dense(v, x), *residuals)[1](g)


_layer_of_own_gradient.defvjp(_forward, _backward)


@network(**_CHAINED)
def layers_of_own_gradients(v, x):
    for name in ("fc1", "fc2", "fc3"):
        x = _layer_of_own_gradient(v[name], x)
    return dense(v["head"], x)


@network(**{**_CHAINED, "inputs": (data(4, 4), jnp.asarray(True))})
def layers_under_a_branch_each(v, x, flag):
    """A branch takes its weights as operands, whose labels must not meet those of the other calls."""
    for name in ("fc1", "fc2", "fc3"):
        x = jax.lax.cond(flag, _compiled_layer, lambda v, x: jnp.tanh(dense(v, x)), v[name], x)
    return dense(v["head"], x)
