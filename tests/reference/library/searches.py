"""The library's side of traces of searches, which train, prune and rewind."""

import functools

import jax
import jax.numpy as jnp
import optax

import jaxticket as jt
from jaxticket import filters, loops, schedules, scopes, scores, structure, units
from jaxticket.data_pruning import init
from jaxticket.loops import early_bird as birds
from jaxticket.loops import soups
from jaxticket.methods.channels import supertickets as drawn
from jaxticket.methods.datasets import prac as sets
from jaxticket.methods.tickets import colt as overlapping
from jaxticket.tickets import Ticket, rewinds
from jaxticket.typing import Trained
from tests.reference.library.classifier import BATCHES, BIASES, KERNELS, apply, count, criterion, observe
from tests.reference.network import full
from tests.reference.problem import MOMENTUM
from tests.reference.published import colt as copies
from tests.reference.published import greedy_soup as cooks
from tests.reference.published import prac as courses
from tests.reference.published import slimming_score as channels
from tests.reference.published import supertickets as supernets
from tests.reference.published.imp import DROP, STEPS

WHERE = filters.match("^[012]/kernel")
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
    push, state, seen = jax.jit(birds.update), None, []
    for gammas in channels.scales(epochs):
        kept = slim(gammas, density)
        state, distances, found = push(birds.init(kept["mask"]) if state is None else state, kept["mask"])
        seen.append({**kept, "distances": {"of all": distances}, "found": {"of all": found}})
    return seen


def slim(gammas, density):
    params = {name: jnp.ones((2, g.size)) for name, g in gammas.items()}
    params |= {name.replace("kernel", "scale"): jnp.asarray(g, jnp.float32) for name, g in gammas.items()}
    scored = scores.slimming(("kernel", "scale"))(params)
    mask = jt.select({name: scored[name] for name in gammas}, density, unit=units.axis(-1), scope=scopes.tree())
    mask = {name: m.ravel() for name, m in mask.items()}
    return {"mask": mask, "living": count(mask)}


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


def branches():
    """Two branches of the multiply-adds of the transcription, each with a scale for each hidden channel."""
    params = {}
    for name, macs in supernets.MACS.items():
        width = len(supernets.GOALS[name])
        outside = macs // width // 2
        params[name] = {
            "in": jnp.ones((outside, width)),
            "scale": jnp.ones((1, width)),
            "out": jnp.ones((width, outside)),
        }

    def apply(params, x):
        hidden = {name: x[name] @ p["in"] * p["scale"] for name, p in params.items()}
        return {name: hidden[name] @ p["out"] for name, p in params.items()}

    inputs = {name: jnp.ones((1, len(p["in"]))) for name, p in params.items()}
    return params, structure.trace(apply, params, inputs)


def supertickets(epochs, interval, target, steps, rate, rho, warmup, decay, threshold):
    others, groups = branches()
    params = {**KERNELS, **others}
    costs = drawn.scale_costs(others, groups, where=filters.match("scale$"))
    search = drawn.begin(params, None, {**dict.fromkeys(KERNELS), **costs}, where=WHERE)
    goals = {name: jnp.array([goal]) for name, goal in supernets.GOALS.items()}

    def loss(params, state, batch, key):
        value = criterion(apply({**params, **BIASES}, batch[0]), batch)
        return value + sum(((params[name]["scale"] - goal) ** 2).sum() / 2 for name, goal in goals.items()), state

    ramp = optax.linear_schedule(0.0, rho, warmup * steps)
    slope = jax.jit(jax.grad(drawn.search_loss(loss, ramp, decay=decay), has_aux=True))
    seen = []

    def train(params, search, opt_state, epoch):
        for _ in range(steps):
            batch = jax.tree.map(lambda x: x[search.count % len(BATCHES)], STACKED)
            gradient, search = slope(params, search, batch, jax.random.key(0))
            params = jax.tree.map(lambda p, g: p - rate * g, params, gradient)
        return params, search, opt_state

    whole = lambda params, state: groups
    options = {"epochs": epochs, "interval": interval, "target": target, "every": epochs + 1, "threshold": 0.0}
    for number, found in enumerate(drawn.supertickets(train, params, search, whole, where=WHERE, **options)):
        now = found.search
        alive = drawn.alive_scales(found.params, now.average, now.costs, threshold=threshold, last=number == epochs - 1)
        row = lambda tree: {name: tree[name]["scale"][0] for name in goals}
        mask = {name: found.mask[name] for name in KERNELS}
        seen.append(
            {
                "mask": mask,
                "living": count(mask),
                "weights": found.params,
                "scales": row(found.params),
                "averages": row(now.average),
                "alive": row(alive),
            }
        )
    return seen


LIBRARY = {
    "supertickets": supertickets,
    "imp": imp,
    "colt": colt,
    "slimming_score": lambda density: [slim(channels.scales(1)[0], density)],
    "early_bird": early_bird,
    "prac": prac,
    "greedy_soup": greedy_soup,
}
