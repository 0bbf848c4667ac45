"""A language model with scanned, rematerialised layers on a mesh, saved by orbax, pruned while it trains.

    python examples/scanned_lm.py --folder /tmp/lm             # again with the same folder: it resumes

It learns the help texts of Python, byte by byte. The mesh has the axes data and model (--model devices). The lines that
say `jt` make it sparse; without them it trains densely.
"""

import argparse
import pathlib
import pydoc_data.topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from orbax.checkpoint import v1 as ocp

import jaxticket as jt

LAYERS, WIDTH, HEADS, LENGTH, BATCH = 4, 64, 4, 64, 16
# Each kernel holds that of all layers, (layers, inputs, outputs); the model axis splits outputs, then inputs.
SPECS = {
    "embed": {"embedding": P(None, "model")},
    "blocks": {
        "qkv": {"kernel": P(None, None, "model")},
        "out": {"kernel": P(None, "model", None)},
        "up": {"kernel": P(None, None, "model")},
        "down": {"kernel": P(None, "model", None)},
        "norm": {"scale": P()},
    },
}


def init_params(key):
    keys = iter(jax.random.split(key, 5))
    kernel = lambda m, n: {"kernel": jax.random.normal(next(keys), (LAYERS, m, n)) / m**0.5}
    blocks = {"qkv": kernel(WIDTH, 3 * WIDTH), "out": kernel(WIDTH, WIDTH), "up": kernel(WIDTH, 4 * WIDTH)}
    blocks |= {"down": kernel(4 * WIDTH, WIDTH), "norm": {"scale": jnp.ones((LAYERS, 2, WIDTH))}}
    return {"embed": {"embedding": 0.1 * jax.random.normal(next(keys), (256, WIDTH))}, "blocks": blocks}


def norm(x, scale):
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * scale[None, None]


@jax.checkpoint  # only the inputs of each layer are kept for the backward pass
def block(x, layer):
    qkv = norm(x, layer["norm"]["scale"][0]) @ layer["qkv"]["kernel"]
    q, k, v = jnp.split(qkv.reshape(*x.shape[:2], HEADS, -1), 3, axis=-1)
    mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape)
    x = x + mixed @ layer["out"]["kernel"]
    hidden = jax.nn.gelu(norm(x, layer["norm"]["scale"][1]) @ layer["up"]["kernel"])
    return x + hidden @ layer["down"]["kernel"], None


def loss_fn(params, tokens):
    places = jnp.arange(LENGTH)[:, None] / 1e4 ** (jnp.arange(WIDTH)[None] / WIDTH)
    x = params["embed"]["embedding"][tokens[:, :-1]] + 0.1 * jnp.sin(places)[None]
    x, _ = jax.lax.scan(block, x, params["blocks"])
    logits = norm(x, jnp.ones(WIDTH)) @ params["embed"]["embedding"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--density", type=float, default=0.25, help="the fraction of the weights that is kept")
    parser.add_argument("--model", type=int, default=1, help="the devices along which each layer is split")
    parser.add_argument("--folder", type=pathlib.Path, help="of the checkpoints; a killed run resumes from the last")
    parser.add_argument("--every", type=int, default=50, help="steps between two checkpoints")
    args = parser.parse_args(argv)

    text = np.frombuffer("\n".join(pydoc_data.topics.topics.values()).encode(), np.uint8).astype(np.int32)
    shape = (jax.device_count() // args.model, args.model)
    mesh = jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS, is_leaf=lambda x: isinstance(x, P))
    params = jax.jit(init_params, out_shardings=shardings)(jax.random.key(0))
    tx = optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-2, args.steps // 10, args.steps))
    tx = jt.sparsify(tx, jt.gradual(args.density, steps=args.steps, stacked={"^blocks/": 0}))
    layout = None  # of the optimizer's state, as the compiler likes
    layout = jt.sharding.state_shardings(tx, params, shardings)
    opt_state = jax.jit(tx.init, out_shardings=layout)(params)
    params = jt.mask_params(params, opt_state)

    def step(params, opt_state, tokens):
        loss, grads = jax.value_and_grad(loss_fn)(params, tokens)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    step = jax.jit(step, donate_argnums=(0, 1), out_shardings=(shardings, layout, None))
    state, first, losses = (params, opt_state), 0, []
    folder = args.folder and args.folder.absolute()
    if folder and (saved := [int(path.name) for path in folder.glob("*") if path.name.isdigit()]):
        first = max(saved)
        state = ocp.load(folder / str(first), state)
        print(f"resumed at step {first}")
    for i in range(first, args.steps):
        starts = np.random.default_rng(i).integers(0, len(text) - LENGTH - 1, (BATCH, 1))
        tokens = jax.device_put(text[starts + np.arange(LENGTH + 1)], NamedSharding(mesh, P("data")))
        *state, loss = step(*state, tokens)
        losses.append(float(loss))
        if i % max(args.steps // 10, 1) == 0 or i == args.steps - 1:
            print(f"step {i:4}  loss {losses[-1]:.3f}")
        if folder and (i + 1) % args.every == 0:
            ocp.save(folder / str(i + 1), tuple(state))

    params, opt_state = state
    print(f"density {jt.density(params, jt.mask_of(opt_state)):.3f}")
    return losses, params, opt_state


if __name__ == "__main__":
    main()
