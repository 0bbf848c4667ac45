"""PPO on CartPole for several seeds at once, in the style of purejaxrl: whole trainings are one program under vmap.

    python examples/ppo_seeds.py

Each seed has its own mask, moved by RigL. The lines that say `jt` make it sparse; without them it trains densely.
"""

import argparse
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxticket as jt

ENVS, LENGTH, EPOCHS, GAMMA, LAMBDA, CLIP = 16, 64, 4, 0.99, 0.95, 0.2
reset = lambda key: jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)


class Moment(NamedTuple):
    state: jax.Array
    action: jax.Array
    logp: jax.Array
    value: jax.Array
    done: jax.Array


def env_step(state, time, action, key):
    """Returns the next state and time of CartPole (Barto et al., 1983), and whether the episode ended; reward is 1."""
    _, x_dot, theta, theta_dot = state
    sin, cos = jnp.sin(theta), jnp.cos(theta)
    push = (jnp.where(action == 1, 10.0, -10.0) + 0.05 * theta_dot**2 * sin) / 1.1
    turn = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    state = state + 0.02 * jnp.array([x_dot, push - 0.05 * turn * cos / 1.1, theta_dot, turn])
    done = (jnp.abs(state[0]) > 2.4) | (jnp.abs(state[2]) > 0.2095) | (time >= 499)
    return jnp.where(done, reset(key), state), jnp.where(done, 0, time + 1), done


def init_network(key, width=64):
    def layer(key, inputs, outputs, gain=2**0.5):
        return {"kernel": jax.nn.initializers.orthogonal(gain)(key, (inputs, outputs)), "bias": jnp.zeros((1, outputs))}

    keys = jax.random.split(key, 4)
    hidden = {"first": layer(keys[0], 4, width), "second": layer(keys[1], width, width)}
    return {**hidden, "actor": layer(keys[2], width, 2, 0.01), "critic": layer(keys[3], width, 1)}


def apply(params, x):
    linear = lambda name, x: x @ params[name]["kernel"] + params[name]["bias"]
    x = jnp.tanh(linear("second", jnp.tanh(linear("first", x))))
    return jax.nn.log_softmax(linear("actor", x)), linear("critic", x)[:, 0]


def loss_fn(params, moments, gaes):
    logs, values = apply(params, moments.state)
    ratio = jnp.exp(jnp.take_along_axis(logs, moments.action[:, None], -1)[:, 0] - moments.logp)
    gains = (gaes - gaes.mean()) / (gaes.std() + 1e-8)
    gain = jnp.minimum(ratio * gains, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * gains).mean()
    return jnp.square(values - gaes - moments.value).mean() / 2 - gain + 0.01 * (jnp.exp(logs) * logs).sum(-1).mean()


def train(key, updates, density):
    key, key_network, key_plan, key_reset = jax.random.split(key, 4)
    params = init_network(key_network)
    tx = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(2.5e-3))
    tx = jt.sparsify(tx, jt.rigl(density, steps=updates * EPOCHS), key=key_plan)
    opt_state = tx.init(params)
    params, opt_state = jt.init(tx, params)

    def act(carry, key):
        params, states, times = carry
        key_action, key_reset = jax.random.split(key)
        logs, values = apply(params, states)
        actions = jax.random.categorical(key_action, logs)
        logp = jnp.take_along_axis(logs, actions[:, None], 1)[:, 0]
        after, times, done = jax.vmap(env_step)(states, times, actions, jax.random.split(key_reset, ENVS))
        return (params, after, times), Moment(states, actions, logp, values, done)

    def advantage(carry, moment):
        gae, next_value = carry
        gae = 1 + GAMMA * (next_value + LAMBDA * gae) * ~moment.done - moment.value
        return (gae, moment.value), gae

    def update(carry, key):
        params, opt_state, states, times = carry
        (_, states, times), moments = jax.lax.scan(act, (params, states, times), jax.random.split(key, LENGTH))
        _, gaes = jax.lax.scan(advantage, (jnp.zeros(ENVS), apply(params, states)[1]), moments, reverse=True)
        flat, flat_gaes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (moments, gaes))

        def epoch(carry, _):
            updates, opt_state = tx.update(jax.grad(loss_fn)(carry[0], flat, flat_gaes), carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), opt_state), None

        (params, opt_state), _ = jax.lax.scan(epoch, (params, opt_state), None, EPOCHS)
        return (params, opt_state, states, times), moments.done.mean()

    carry = (params, opt_state, jax.vmap(reset)(jax.random.split(key_reset, ENVS)), jnp.zeros(ENVS, int))
    (params, opt_state, *_), ends = jax.lax.scan(update, carry, jax.random.split(key, updates))
    return params, opt_state, ends


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150, help="updates, each on 1,024 steps of the environment")
    parser.add_argument("--density", type=float, default=0.2, help="the fraction of the weights that is kept")
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args(argv)
    keys = jax.random.split(jax.random.key(0), args.seeds)
    run = jax.jit(jax.vmap(lambda key: train(key, args.steps, args.density))).lower(keys).compile()
    print("compiled")
    params, opt_state, ends = run(keys)
    for i in sorted({*range(0, args.steps, max(args.steps // 10, 1)), args.steps - 1}):
        print(f"update {i:4}  mean length of an episode", *(f"{1 / max(e, 1 / 500):5.0f}" for e in ends[:, i]))
    print("density", *(f"{d:.3f}" for d in jax.vmap(jt.density)(params, jt.mask_of(opt_state))))
    return ends.mean(0).tolist(), params, opt_state


if __name__ == "__main__":
    main()
