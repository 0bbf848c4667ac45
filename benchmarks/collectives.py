"""The collectives of a sparse step between devices, beyond those of plain optax.

Programs are compiled, not run. The step has gradients of all devices, Adam, and the mask's refresh under its condition;
the report lists its collectives and the bytes that they put on each device. A collective in a loop is counted once: a
selection makes up to 16 passes, and its share is a few counts a group and pass. First comes every plan on a (data 4 x
fsdp 2) mesh, with layers of two sizes; then ResNet-50 and a transformer of 7 billion parameters on 256 devices, from
shapes alone.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import _harness
import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh

import jaxticket as jt
from jaxticket import models, scopes, sharding

COMPILER = {"xla_backend_optimization_level": "0"}  # of the code of each device, which moves nothing
DEVICES = 256
STEPS = 1000
PLANS: dict[str, Callable[[], jt.Plan]] = {
    "static": lambda: jt.static(0.1),
    "gradual": lambda: jt.gradual(0.1, stop=STEPS),
    "gradual, global": lambda: jt.gradual(0.1, stop=STEPS, scope=scopes.tree()),
    "SET": lambda: jt.sparse_evolutionary(0.1),
    "RigL": lambda: jt.rigl(0.1, stop=STEPS),
    "SNFS": lambda: jt.snfs(0.1, stop=STEPS),
    "ITOP": lambda: jt.itop(0.1, steps=STEPS, every=100),
    "GraNet": lambda: jt.granet(0.1, stop=STEPS // 2, steps=STEPS),
    "MEST": lambda: jt.mest(0.1, stop=STEPS),
    "AC/DC": lambda: jt.ac_dc(0.1, steps=STEPS, compress=(0.1, 0.4), decompress=(0.2,)),
    "ISS-P": lambda: jt.iss_p(0.1, stop=STEPS),
}
# A layer of a stacked leaf is a slice of it: as many weights are kept of each.
STACKED = {
    "gradual": lambda: jt.gradual(0.1, stop=STEPS, scope=scopes.slices(0), allocate=None),
    "RigL": lambda: jt.rigl(0.1, stop=STEPS, scope=scopes.slices(0), allocate=None),
}

Loss = Callable[[Any, Any], jax.Array]
Moves = list[tuple[str, int]]  # collectives, and bytes of their results on a device


class Network(NamedTuple):
    """The shapes of parameters and of a batch, and the loss of both."""

    params: Any
    batch: Any
    loss: Loss


def dense(width: int) -> Network:
    """Return a network of four layers of this width."""
    layer = {"kernel": _shape(width, width), "bias": _shape(width)}

    def loss(params: Any, x: jax.Array) -> jax.Array:
        for layer in params.values():
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        return jnp.mean(jnp.square(x))

    return Network({f"layer{i}": layer for i in range(4)}, _shape(64, width), loss)


def resnet_50() -> Network:
    """Return ResNet-50 with 8 images of ImageNet a device."""
    model = models.resnet_50()
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    batch = _shape(8 * DEVICES, 224, 224, 3), _shape(8 * DEVICES, dtype=jnp.int32)

    def loss(params: Any, batch: Any) -> jax.Array:
        statistics = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)
        logits, _ = model.apply(params, statistics, batch[0], train=True, key=None)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    return Network(params, batch, loss)


def transformer_7b(*, layers: int = 32, width: int = 4096, hidden: int = 11008, vocabulary: int = 32000) -> Network:
    """Return a decoder with gated hidden layers, scanned over; one text of 2,048 tokens a device."""
    stacked = lambda *shape: {"kernel": _shape(layers, *shape)}
    blocks = {
        "query": stacked(width, width),
        "key": stacked(width, width),
        "value": stacked(width, width),
        "out": stacked(width, width),
        "gate": stacked(width, hidden),
        "up": stacked(width, hidden),
        "down": stacked(hidden, width),
        "norm1": {"scale": _shape(layers, width)},
        "norm2": {"scale": _shape(layers, width)},
    }
    embedding = {"embedding": _shape(vocabulary, width)}
    params = {"embed": embedding, "blocks": blocks, "head": {"unembedding": _shape(width, vocabulary)}}

    def block(x: jax.Array, layer: Any) -> tuple[jax.Array, None]:
        layer = _whole(layer)
        h = _norm(x, layer["norm1"])
        heads = [(h @ layer[name]["kernel"]).reshape(*h.shape[:2], -1, 128) for name in ("query", "key", "value")]
        x = x + jax.nn.dot_product_attention(*heads, is_causal=True).reshape(x.shape) @ layer["out"]["kernel"]
        h = _norm(x, layer["norm2"])
        gated = jax.nn.silu(h @ layer["gate"]["kernel"]) * (h @ layer["up"]["kernel"])
        return x + gated @ layer["down"]["kernel"], None

    def loss(params: Any, tokens: jax.Array) -> jax.Array:
        x = params["embed"]["embedding"][tokens]
        x, _ = jax.lax.scan(jax.checkpoint(block), x, params["blocks"])
        logits = x @ _whole(params["head"])["unembedding"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.roll(tokens, -1, axis=1))
        return jnp.mean(losses * (jnp.arange(tokens.shape[1]) < tokens.shape[1] - 1))

    return Network(params, _shape(DEVICES, 2048, dtype=jnp.int32), loss)


def moved(network: Network, tx: optax.GradientTransformation, mesh: Mesh) -> Moves:
    """Return the collectives of a training step whose weights lie fully sharded on the mesh."""
    layout = sharding.fsdp(network.params, mesh, minimum=0)
    layouts = sharding.state_shardings(tx, network.params, layout)

    def step(params: Any, state: Any, batch: Any) -> Any:
        updates, state = tx.update(jax.grad(network.loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, network.params)
    batch = jax.tree.map(lambda _: sharding.batch(mesh), network.batch)
    shapes = jax.tree.map(_placed, (network.params, state, network.batch), (layout, layouts, batch))
    with jax.set_mesh(mesh):
        return _collectives(jax.jit(step, out_shardings=(layout, layouts)).lower(*shapes))


def reduced(network: Network, mesh: Mesh, reduction: sharding.Reduction) -> Moves:
    """Return the collectives of a gradient whose weights are whole on each device."""
    whole = jax.NamedSharding(mesh, jax.P())
    gradient = sharding.value_and_grad(
        lambda params, state, x, key: (network.loss(params, x), state), mesh=mesh, reduction=reduction
    )
    params = jax.tree.map(functools.partial(_placed, layout=whole), network.params)
    batch = _placed(network.batch, sharding.batch(mesh, axes=("data",)))
    step = jax.jit(lambda params, x: gradient(params, None, x, jax.random.key(0)), out_shardings=whole)
    return _collectives(step.lower(params, batch))


def plans_on_a_small_mesh(plans: dict[str, Callable[[], jt.Plan]], widths: tuple[int, int]) -> list[dict]:
    """Return a row for each plan and size: its collectives beyond those of plain Adam."""
    mesh = _mesh((4, 2), ("data", "fsdp"))
    networks = [dense(width) for width in widths]
    rows = [row for network in networks for row in against_plain("dense", network, plans, mesh)]
    mesh = _mesh((8,), ("data",))
    for network in networks:
        anyhow = reduced(network, mesh, "any")
        rows.append(_row("dense", network, "gradient, any order", anyhow, anyhow))
        rows.append(_row("dense", network, 'gradient, "fixed"', reduced(network, mesh, "fixed"), anyhow))
    return sorted(rows, key=lambda row: [*plans].index(row["step"]) if row["step"] in plans else -1)


def against_plain(
    name: str, network: Network, plans: dict[str, Callable[[], jt.Plan]], mesh: Mesh
) -> list[dict[str, Any]]:
    """Return a row for each plan, and a row of plain Adam."""
    plain = moved(network, optax.adam(1e-3), mesh)
    rows = [_row(name, network, "plain Adam", plain, plain)]
    for plan, make in plans.items():
        tx = jt.sparsify(optax.adam(1e-3), make(), key=jax.random.key(0))
        rows.append(_row(name, network, plan, moved(network, tx, mesh), plain))
    return rows


def _row(name: str, network: Network, step: str, sparse: Moves, plain: Moves) -> dict[str, Any]:
    total, before = (sum(size for _, size in moves) for moves in (sparse, plain))
    return {
        "network": f"{name} {sum(leaf.size for leaf in jax.tree.leaves(network.params)) / 1e6:,.3g}M",
        "step": step,
        "collectives": len(sparse),
        "bytes": f"{total:,}",
        "beyond plain": f"{total - before:,}",
    }


def _mesh(shape: tuple[int, ...], names: tuple[str, ...]) -> Mesh:
    devices = jax.devices()[: math.prod(shape)]
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape), devices=devices)


def _collectives(lowered: Any) -> Moves:
    return sharding.collectives(lowered.compile(COMPILER))


def _shape(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _placed(x: jax.ShapeDtypeStruct, layout: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout)


def _whole(layer: Any) -> Any:
    """Gather weights where they are used; left to itself, GSPMD gathers the activations that they multiply."""
    return jax.lax.with_sharding_constraint(layer, jax.P())


def _norm(x: jax.Array, layer: Any) -> jax.Array:
    return layer["scale"] * x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6)


def main() -> None:
    args = _harness.arguments(__doc__)
    jax.config.update("jax_num_cpu_devices", 8 if args.quick else DEVICES)
    busy = _harness.Busy()
    if args.quick:
        rows = plans_on_a_small_mesh({"RigL": PLANS["RigL"]}, (64, 128))
    else:
        rows = plans_on_a_small_mesh(PLANS, (256, 2048))
        some = {name: PLANS[name] for name in ("gradual, global", "RigL", "GraNet")}
        rows += against_plain("ResNet-50", resnet_50(), some, _mesh((32, 8), ("data", "fsdp")))
        rows += against_plain("transformer", transformer_7b(), STACKED, _mesh((8, 32), ("data", "fsdp")))
    _harness.report("collectives", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
