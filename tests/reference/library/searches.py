"""The library's side of traces of searches, which train, prune and rewind."""

import functools

import jax
import jax.numpy as jnp
import optax

import jaxticket as jt
from jaxticket import loops, schedules, scopes, scores, units
from jaxticket.data_pruning import init
from jaxticket.loops import early_bird as birds
from jaxticket.loops import soups
from jaxticket.methods.datasets import prac as sets
from jaxticket.methods.tickets import colt as overlapping
from jaxticket.tickets import Ticket, rewinds
from jaxticket.typing import Trained
from tests.reference.library.classifier import BATCHES, BIASES, KERNELS, apply, count, criterion, observe
from tests.reference.network import full
from tests.reference.problem import MOMENTUM
from tests.reference.published import colt as copies
from tests.reference.published import early_bird as channels
from tests.reference.published import greedy_soup as cooks
from tests.reference.published import prac as courses
from tests.reference.published.imp import DROP, STEPS

FULL = {name: jnp.asarray(m) for name, m in full().items()}
STACKED = jax.tree.map(lambda *leaves: jnp.stack(leaves), *BATCHES)


@functools.partial(jax.jit, static_argnames="steps")
def fit(params, mask, step, *, steps):
    """SGD with momentum under a mask, by a schedule that begins at a step."""
    tx = jt.sparsify(optax.sgd(lambda t: jnp.where(t + step < DROP, 0.2, 0.02), MOMENTUM), jt.static(), mask=mask)
    params, state = jt.init(tx, params)

    def train_step(i, carry):
        batch = jax.tree.map(lambda x: x[(i + step) % len(BATCHES)], STACKED)
        gradients = jax.grad(lambda p: criterion(apply({**p, **BIASES}, batch[0]), batch))(carry[0])
        updates, state = tx.update(gradients, carry[1], carry[0])
        return optax.apply_updates(carry[0], updates), state

    return jax.lax.fori_loop(0, steps, train_step, (params, state))[0]


def imp(levels, rewind, policy):
    def train(params, state, mask, key, *, step, opt_state):
        assert opt_state is None
        return Trained(fit(params, mask, step, steps=STEPS - rewind), state, {})

    first = Ticket(fit(KERNELS, FULL, 0, steps=rewind), FULL, step=rewind)
    rule = rewinds.fine_tune(STEPS) if policy == "fine_tune" else getattr(rewinds, policy)()
    densities = schedules.levels(levels, rate=0.2)
    found = loops.imp(train, first, densities=densities, prune=loops.prune_by(), rewind=rule, key=jax.random.key(0))
    return [
        {
            "mask": level.ticket.mask,
            "living": count(level.ticket.mask),
            "start": jt.rewind(level.ticket),
            "trained": level.trained.params,
        }
        for level in found
    ]


def colt(partitions, rounds, rate):
    moves = iter(copies.moves(partitions, rounds))

    def train(params, state, mask, key, *, step, opt_state):
        move = jax.tree.map(lambda *leaves: jnp.stack(leaves).astype(jnp.float32), *next(moves))
        return Trained(jax.tree.map(lambda p, m, d: (p + d) * m, params, mask, move), state, {})

    levels = overlapping.colt(
        train, Ticket(KERNELS, FULL), partitions=partitions, rounds=rounds, rate=rate, key=jax.random.key(0)
    )
    seen = []
    for level in levels:
        mask, start = (jax.tree.map(lambda x: x[0], tree) for tree in (level.ticket.mask, jt.rewind(level.ticket)))
        seen.append({"mask": mask, "living": count(mask), "start": start})
    return seen


def early_bird(density, epochs):
    score, push, state, seen = scores.slimming(("kernel", "scale")), jax.jit(birds.update), None, []
    for gammas in channels.scales(epochs):
        params = {name: jnp.ones((2, g.size)) for name, g in gammas.items()}
        params |= {name.replace("kernel", "scale"): jnp.asarray(g, jnp.float32) for name, g in gammas.items()}
        mask = jt.select(score(params), density, unit=units.axis(-1), scope=scopes.tree())
        state, distances, found = push(birds.init(mask) if state is None else state, mask)
        parts = {name: mask[name].ravel() for name in gammas}
        seen.append(
            {"mask": parts, "living": count(parts), "distances": {"of all": distances}, "found": {"of all": found}}
        )
    return seen


def prac(rounds, epochs, threshold, rate, tolerance):
    chosen, mask, seen = jnp.ones(courses.EXAMPLES, bool), FULL, []
    for number in range(rounds):
        shown, statistics = courses.course(number, epochs), init(courses.EXAMPLES)
        everyone = jnp.arange(courses.EXAMPLES)
        for right in shown["right"]:
            statistics = observe(statistics, everyone, {"correct": jnp.asarray(right)}, real=chosen)
        outcome = sets.Outcome(number, statistics, jnp.asarray(shown["dense"]), jnp.asarray(shown["sparse"]))
        events, chosen = jt.data_pruning.forgetting(statistics), sets.prac_set(outcome, threshold=threshold)
        stop, mask = settle(shown["weights"], mask, rate, tolerance)
        seen.append(
            {
                "mask": mask,
                "living": count(mask),
                "events": {"of all": events},
                "set": {"of all": chosen},
                "stop": {"of all": stop},
            }
        )
    return seen


def settle(weights, mask, rate, tolerance):
    size = sum(m.size for m in mask.values())
    density = (1 - rate) * sum(count(mask).values()) / size
    state, last, prune = sets.init_settling(), None, loops.prune_by()
    for epoch, leaves in enumerate(weights):
        params = {name: jnp.asarray(w, jnp.float32) for name, w in leaves.items()}
        new = prune(params, mask, density, key=jax.random.key(0))
        if last is not None:
            state, settled = sets.settle(state, sets.mask_distance(params, mask, last, new), tolerance=tolerance)
            if settled:
                return epoch, new
        last = new
    return len(weights), new


def greedy_soup(spread):
    weights, best = (jnp.asarray(x, jnp.float32) for x in cooks.members(spread))
    merge = soups.greedy(lambda params, state: -jnp.abs(params["w"] - best).sum())
    soup = merge(Trained({"w": weights}, None, {}), {"w": jnp.ones(len(best), bool)})
    return [{"soup": soup.params, "shares": {"of members": soup.weights}}]


LIBRARY = {"greedy_soup": greedy_soup, "imp": imp, "colt": colt, "early_bird": early_bird, "prac": prac}
