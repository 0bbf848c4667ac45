"""Loops around training on digits: soups of sparse networks, Early-Bird tickets, and a ticket's dense parent."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import diagnostics, filters, loops, masks, schedules, scopes, training
from jaxticket.loops import early_bird, soups
from tests.science import digits

pytestmark = pytest.mark.science

SEEDS = 3
(IMAGES, LABELS), TEST = digits.digits()
ONE = training.Placement(tuple(jax.devices()[:1]), "vmap", "")


def report(name, values, unit="%"):
    mean, half = found = diagnostics.interval(np.asarray(values, float).tolist())
    print(f"{name}: {mean:.2f} ± {half:.2f} {unit}, {np.round(np.asarray(values, float), 2).tolist()}")
    return found


def loss(params, state, batch, key):
    return digits.loss(params, batch), state


def recipe(**options):
    defaults = {"loss": loss, "data": (IMAGES, LABELS), "batch_size": digits.BATCH}
    return training.Recipe(**{**defaults, "learning_rate": optax.constant_schedule(1.2e-3), **options})


accuracies = jax.jit(jax.vmap(lambda params: digits.accuracy(params, TEST)))


@functools.cache
def dense():
    """Dense networks, one a seed."""
    keys = jax.random.split(jax.random.key(0), (SEEDS, 2))
    params = jax.vmap(digits.init)(keys[:, 0])
    none = jax.tree.map(lambda _: None, params)
    fitted = training.fit(recipe(), placement=ONE)(params, None, none, keys[:, 1], step=0, steps=600, opt_state=None)
    return fitted.params


def one(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


@functools.cache
def soup_searches():
    """For each seed the phases to 5 %: accuracies of the soup and of its members, and how far two are apart."""
    steps = 250
    line = recipe(learning_rate=optax.linear_schedule(4e-3, 0.0, steps))
    members = soups.at_once(training.fit(line, placement=ONE), members=3, steps=steps)
    found = []

    def measure(trained, soup):
        first, second = (trained.params[0]["kernel"][i] for i in (0, 1))
        apart = jnp.linalg.norm(first - second) / jnp.linalg.norm(first)
        found.append((digits.accuracy(soup.params, TEST), accuracies(trained.params), apart))
        return {}

    for seed in range(SEEDS):
        params = one(dense(), seed)
        ticket = jt.Ticket(params, filters.full_mask(params, filters.weights()))
        for level in soups.search(
            members, ticket, densities=soups.phases(0.05, 3), key=jax.random.key(seed), measure=measure
        ):
            kept = int(masks.nnz(level.trained.params, level.ticket.mask))
            assert kept == round(level.density * 50_200)
            assert sum(int(jnp.sum(layer["kernel"] != 0)) for layer in level.trained.params) <= kept
    soup, alone, apart = (np.array(values).reshape(SEEDS, 3, -1) for values in zip(*found, strict=True))
    return soup[..., 0], alone, apart[..., 0]


def test_a_soup_is_as_good_as_its_best_member():
    """Members of one ticket lie in one region; the best is chosen by the test images, in its favour."""
    soup, members, apart = soup_searches()
    report("soup at 5 %", soup[:, -1])
    report("its members", members[:, -1].mean(-1))
    behind = report("soup − best member, all phases", (soup - members.max(-1)).mean(-1), "points")
    report("soup − mean member, all phases", (soup - members.mean(-1)).mean(-1), "points")
    assert behind.mean >= -0.3
    # The controls: members are not one network, and of networks that share no beginning the average is none.
    print("distance of two members, relative to their norm:", apart.mean(0).round(3).tolist())
    assert apart.min() > 0.01
    lost = accuracies(dense()).mean() - digits.accuracy(soups.average(dense()), TEST)
    print(f"average of independent dense networks: {lost:.1f} points below them")
    assert lost > 5


def test_an_average_of_different_masks_is_no_ticket():
    """The control: members that are pruned after they were trained apart."""
    params = dense()
    full = filters.full_mask(one(params, 0), filters.weights())
    pruned = [
        jt.apply_mask(one(params, seed), loops.prune_by()(one(params, seed), full, 0.05, key=jax.random.key(0)))
        for seed in range(SEEDS)
    ]
    average = soups.average(jax.tree.map(lambda *xs: jnp.stack(xs), *pruned))
    kept = sum(int(jnp.sum(layer["kernel"] != 0)) for layer in average)
    print(f"average of {SEEDS} masks of 5 %: {kept / 50_200:.3f}")
    assert kept > 1.5 * 0.05 * 50_200


EPOCHS, STEPS, WIDTHS = 20, 1200 // digits.BATCH, (64, 100, 100, 10)


def init_normed(key):
    layers = digits.init(key, WIDTHS)
    return [{**p, "scale": jnp.ones_like(p["bias"]), "shift": jnp.zeros_like(p["bias"])} for p in layers]


def apply_normed(params, x):
    """Batch statistics at test time too: those of all test images."""
    for layer in params[:-1]:
        x = x @ layer["kernel"]
        x = (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5)
        x = jax.nn.relu(x * layer["scale"] + layer["shift"])
    return x @ params[-1]["kernel"] + params[-1]["bias"]


def normed_loss(params, batch):
    return optax.softmax_cross_entropy_with_integer_labels(apply_normed(params, batch[0]), batch[1]).mean()


def channels(params):
    """Half of the channels of both hidden layers, by their scales; scale, shift and filter go together."""
    only = lambda make: [*map(make, params[:-1]), make(None)]
    blank = {"kernel": None, "bias": None, "scale": None, "shift": None}
    score = only(lambda layer: {**blank, "scale": None if layer is None else jnp.abs(layer["scale"])})
    chosen = jt.select(score, 0.5, scope=scopes.tree())
    alike = lambda scale: blank if scale is None else {**blank, "kernel": scale, "scale": scale, "shift": scale}
    return [alike(layer["scale"]) for layer in chosen]


def slimmed(key, *, worm):
    """Distances, was a ticket found, parameters and mask at the start of each epoch; and the last parameters."""
    init_key, order_key = jax.random.split(key)
    params = init_normed(init_key)
    penalty = lambda u, p: {**u, "scale": u["scale"] + 1e-3 * jnp.sign(p["scale"])}
    sparser = optax.stateless(lambda updates, params: list(map(penalty, updates, params)))
    # First: the penalties go on. Scales that are held still come back into the mask as the others shrink.
    cut = early_bird.worm(channels, when=schedules.every(STEPS)) if worm else optax.identity()
    tx = optax.chain(cut, sparser, optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9))

    def step(carry, at):
        params, state = carry
        rows = jax.random.randint(jax.random.fold_in(order_key, at), (digits.BATCH,), 0, 1200)
        grads = jax.grad(normed_loss)(params, (IMAGES[rows], LABELS[rows]))
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, index):
        params, state, bird = carry
        mask = channels(params)
        bird, distances, found = early_bird.update(bird, mask)
        (params_after, state), _ = jax.lax.scan(step, (params, state), index * STEPS + jnp.arange(STEPS))
        return (params_after, state, bird), (distances, found, params, mask)

    start = params, tx.init(params), early_bird.init(channels(params))
    (params, _, _), history = jax.lax.scan(epoch, start, jnp.arange(EPOCHS))
    return history, params


@functools.cache
def birds(worm):
    keys = jax.random.split(jax.random.key(5), SEEDS)
    (distances, found, params, mask), end = jax.jit(jax.vmap(functools.partial(slimmed, worm=worm)))(keys)
    epochs = np.where(np.any(found, 1), np.argmax(found, 1), EPOCHS)
    print(f"{'WORM' if worm else 'Early-Bird'}: found at epochs {epochs.tolist()} of {EPOCHS}")
    return epochs, np.asarray(distances), params, mask, end


def test_the_early_bird_ticket_is_found_in_the_first_half():
    epochs, distances, params, mask, end = birds(False)
    assert epochs.max() < EPOCHS / 2
    assert epochs.min() >= 4
    # The masks settle: the distance to the epoch before falls.
    nearest = distances[:, 1:, -1]
    print("distance to the epoch before:", np.round(nearest.mean(0), 3).tolist())
    assert nearest[:, :3].mean() > 2 * nearest[:, -3:].mean()
    # What was pruned there and trained on is as good as the dense network.
    ticket, kept = jax.tree.map(lambda x: x[np.arange(SEEDS), epochs], (params, mask))
    tune = recipe(
        loss=lambda params, state, batch, key: (normed_loss(params, batch), state),
        optimizer=functools.partial(optax.sgd, momentum=0.9),
        learning_rate=optax.linear_schedule(0.1, 0, 200),
    )
    fit = training.fit(tune, placement=ONE)
    keys = jax.random.split(jax.random.key(6), SEEDS)
    tuned = fit(jax.vmap(jt.apply_mask)(ticket, kept), None, kept, keys, step=0, steps=200, opt_state=None).params
    score = jax.vmap(lambda p: 100 * jnp.mean(apply_normed(p, TEST[0]).argmax(-1) == TEST[1]))
    gap = report("ticket − dense", score(tuned) - score(end), "points")
    assert gap.mean >= -1


def test_worm_does_not_come_more_than_an_epoch_later():
    """It is meant to come sooner, which it does not where tickets are found within two epochs of the first chance."""
    plain, cut = birds(False)[0], birds(True)[0]
    assert np.median(cut) <= np.median(plain) + 1


def test_a_ticket_of_two_percent_and_its_dense_parent():
    """What the parent adds is reported; it must not harm, and one of other classes, the control, must be believed."""
    params = dense()
    full = filters.full_mask(one(params, 0), filters.weights())
    mask = [loops.prune_by()(one(params, seed), full, 0.02, key=jax.random.key(0)) for seed in range(SEEDS)]
    mask = jax.tree.map(lambda *ms: jnp.stack(ms), *mask)
    start = jax.vmap(jt.apply_mask)(params, mask)
    keys = jax.random.split(jax.random.key(9), SEEDS)
    parents = jax.vmap(lambda p: digits.apply(p, IMAGES))(params)
    ours = lambda params, state, batch, key: (digits.apply(params, batch[0]), state)
    options = {"labels": lambda batch: batch[1], "temperature": 2.0, "weight": 0.5}
    distilled = training.distill(ours, lambda batch: batch[2], **options)
    plain = lambda params, state, batch, key: loss(params, state, batch[:2], key)

    @functools.partial(jax.jit, static_argnames="own")
    def trained(teachers, own):
        def one(start, mask, key, teacher):
            taught = recipe(loss=own, data=(IMAGES, LABELS, teacher))
            return training.scan_train(taught, steps=1200)(start, None, mask, key, step=0, opt_state=None).params

        return jax.vmap(one)(start, mask, keys, teachers)

    found = {
        "plain": accuracies(trained(parents, plain)),
        "distilled": accuracies(trained(parents, distilled)),
        "misled": accuracies(trained(jnp.roll(parents, 1, -1), distilled)),
    }
    for name, values in found.items():
        report(name, values)
    gain = report("distilled − plain", found["distilled"] - found["plain"], "points")
    assert gain.mean >= -1
    assert np.max(found["misled"]) < 50
