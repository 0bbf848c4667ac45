"""BiP, PDP, STR, MaskSparsity and AP on real digits, each beside controls that a bug would not tell it from.

The problem of `digits`; three seeds in one program, paired by their first weights and the order of examples. Accuracies
are in %.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import diagnostics, filters, imp_scan, loops, masks, reparam, schedules, scopes, scores, transforms
from jaxticket.methods.tickets.activate_while_pruning import activate_while_pruning
from jaxticket.typing import Trained
from tests.science.digits import BATCH, Run, accuracy, digits, init, loss

pytestmark = pytest.mark.science

SEEDS = 3
KEYS = jax.random.split(jax.random.key(0), SEEDS)
ADAM = optax.adam(1.2e-3)


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """Before anything is traced, which would cache tracers."""
    digits()


def batch(key: jax.Array, i: jax.Array) -> Any:
    (images, labels), _ = digits()
    rows = jax.random.randint(jax.random.fold_in(key, i), (BATCH,), 0, len(labels))
    return images[rows], labels[rows]


def descend(tx: Any, objective: Any, params: Any, steps: int) -> Any:
    """`steps` of `tx` from `params`, along objective(params, step)."""

    def step(carry: Any, i: jax.Array) -> Any:
        params, state = carry
        updates, state = tx.update(jax.grad(objective)(params, i), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(steps))[0][0]


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, 0))
def train_sparse(params: Any, mask: Any, key: jax.Array) -> Any:
    """800 steps under a mask."""
    tx = jt.sparsify(ADAM, jt.static(), mask=mask)
    params = masks.apply_mask(params, mask)
    return descend(tx, lambda p, i: loss(p, batch(key, i)), params, 800)


def accuracies(params: Any) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(lambda p: accuracy(p, digits()[1])))(params))


def show(**found: np.ndarray) -> None:
    for name, values in found.items():
        mean, half = diagnostics.interval(values.tolist())
        print(f"{name}: {mean:.2f} ± {half:.2f}")


def without_biases(steps: int) -> optax.GradientTransformation:
    """The authors' SGD, which leaves biases at 0: networks that have none are cut in two more easily."""
    at_zero = lambda path, u: jnp.zeros_like(u) if "bias" in jax.tree_util.keystr(path) else u
    still = optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(at_zero, updates))
    rate = optax.cosine_decay_schedule(0.1, steps)
    return optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(rate, momentum=0.9), still)


def test_bip_trains_where_one_shot_pruning_collapses():
    """2 % of 64-256-256-10 drawn Kaiming-normal, whose last layers a global threshold starves: 40 points ahead.

    The weights get 400 steps dense and 400 under each mask; BiP's scores as many, and its density falls meanwhile. The
    lead over one-shot pruning is the schedule's: gradual magnitude pruning, shown beside it, leads as far, and BiP at
    2 % from its first step on, shown too, starts from networks that are cut, which have no gradient.
    """
    steps, density = 400, 0.02
    kernel = jax.nn.initializers.he_normal()
    objective = lambda key: lambda p, i: loss(p, batch(key, i))

    @jax.jit
    @jax.vmap
    def trained(key):
        params = init(key, (64, 256, 256, 10), kernel)
        return descend(without_biases(steps), objective(key), params, steps)

    @jax.jit
    @jax.vmap
    def pruned(params, key):
        def masked(score):
            scored = filters.only(score(params, key=key), filters.weights()(params))
            mask = jt.select(scored, density, scope=scopes.tree())
            tx = jt.sparsify(without_biases(steps), jt.static(), mask=mask)
            return descend(tx, objective(key), masks.apply_mask(params, mask), steps)

        def bilevel(density):
            method = reparam.bip(density, upper=optax.sgd(1.0))
            realised = lambda latent, i: objective(key)(method.realise(latent, count=i), i)
            # Weights and scores take turns.
            latent = descend(method.wrap(without_biases(steps)), realised, method.init(params), 2 * steps)
            return reparam.export(method, latent, count=2 * steps)[0]

        falling = schedules.cubic(density, start=0, stop=steps, initial=0.2)
        halved = schedules.cubic(density, start=0, stop=steps // 2, initial=0.2)
        plan = jt.gradual(halved, every=1, stop=steps // 2, scope=scopes.tree())
        gradual = jt.sparsify(without_biases(steps), plan)
        return {
            "gradual": descend(gradual, objective(key), params, steps),
            "bip": bilevel(falling),
            "bip_at_once": bilevel(density),
            "one_shot": masked(scores.magnitude),
            "random": masked(scores.random),
        }

    dense = trained(KEYS)
    params = pruned(dense, jax.vmap(lambda key: jax.random.fold_in(key, 1))(KEYS))
    found = {name: accuracies(p) for name, p in params.items()}
    show(dense=accuracies(dense), **found)
    kept = sum(np.count_nonzero(layer["kernel"], axis=(1, 2)) for layer in params["bip"])
    assert set(kept.tolist()) == {round(density * (64 * 256 + 256 * 256 + 256 * 10))}
    mean, half = diagnostics.interval((found["bip"] - found["one_shot"]).tolist())
    print(f"bip − one-shot: {mean:.1f} ± {half:.1f}")
    assert mean >= 40
    assert mean - half > 0
    assert (found["bip"] - found["random"]).min() > 40
    assert found["bip"].min() >= 92


def test_pdp_decides_and_is_as_good_as_gradual_pruning():
    """5 % of 64-100-10: hardening costs nothing, because hardly a gate is left undecided."""
    steps, widths = 2000, (64, 100, 10)
    method = reparam.pdp(0.05, start=100, ramp=1000, stop=steps, temperature=1e-2)

    @jax.jit
    @jax.vmap
    def trained(key):
        init_key, order_key, _ = jax.random.split(key, 3)  # as Run draws them
        objective = lambda p, i: loss(method.realise(p, count=i), batch(order_key, i))
        weights = descend(ADAM, objective, init(init_key, widths), steps)
        return weights, method.realise(weights, count=steps - 1), method.realise(weights, count=steps)

    weights, soft, hard = trained(jax.random.split(jax.random.key(0), 4))
    gates = np.concatenate([(np.asarray(s["kernel"]) / np.asarray(w["kernel"])).ravel() for s, w in zip(soft, weights)])
    undecided = float(((gates > 0.1) & (gates < 0.9)).mean())
    plan = jt.gradual(0.05, start=100, stop=1500, every=25, scope=scopes.tree())
    gradual = Run(plan, steps=steps, seeds=4, widths=widths)
    found = accuracies(hard)
    show(soft=accuracies(soft), hard=found, gradual=gradual.accuracy)
    print(f"undecided gates: {undecided:.5f}")
    assert undecided < 0.01
    assert abs(np.mean(found - accuracies(soft))) <= 0.3
    assert np.mean(found - gradual.accuracy) >= -0.2
    assert {int(sum(np.count_nonzero(p["kernel"][i]) for p in hard)) for i in range(4)} == {370}


def test_str_learns_where_to_be_sparse():
    """Above 90 % sparsity within 1.5 points of dense; as many by magnitude at once, evenly by layer, are worse."""
    steps, method = 1500, reparam.soft_threshold(initial=-5.0)
    tx = optax.partition(
        {"weights": ADAM, "learned": optax.sgd(0.02), "constants": optax.set_to_zero()}, reparam.groups
    )

    @jax.jit
    @jax.vmap
    def trained(key):
        first = method.init(init(key))
        objective = lambda l, i: loss(method.realise(l, count=i), batch(key, i)) + 0.5 * reparam.threshold_decay(l)
        return reparam.export(method, descend(tx, objective, first, steps), count=steps)

    params, mask = trained(KEYS)
    dense = jax.jit(jax.vmap(lambda k: descend(ADAM, lambda p, i: loss(p, batch(k, i)), init(k), steps)))(KEYS)
    kept = np.stack([np.asarray(m["kernel"].sum((1, 2))) for m in mask])
    density = kept.sum(0) / 50200

    @jax.jit
    @jax.vmap
    def uniform(params, density):
        scored = filters.only(scores.magnitude(params), filters.weights()(params))
        return masks.apply_mask(params, jt.select(scored, density))

    found = {"STR": params, "dense": dense, "uniform": uniform(dense, jnp.float32(density))}
    found = {name: accuracies(params) for name, params in found.items()}
    print(f"density {density}, kept {kept.tolist()}")
    show(**found)
    assert density.max() < 0.1
    assert np.mean(found["STR"] - found["dense"]) >= -1.5
    assert (found["STR"] - found["uniform"]).min() > 0


class Layer(NamedTuple):
    kernel: jax.Array
    scale: jax.Array
    bias: jax.Array


def normalised(params: Any, x: jax.Array) -> jax.Array:
    """A perceptron with batch normalisation by the statistics of the batch."""
    *hidden, last = params
    for layer in hidden:
        x = x @ layer.kernel
        x = (x - x.mean(0, keepdims=True)) * jax.lax.rsqrt(x.var(0, keepdims=True) + 1e-5)
        x = jax.nn.relu(x * layer.scale + layer.bias)
    return x @ last.kernel + last.bias


def test_mask_sparsity_prunes_chosen_channels_and_spares_the_others():
    """Half of each layer; l1 on all scales instead, of the same strength, shrinks those that stay."""
    strength, steps = 0.03, 800

    def begun(key):
        layers = init(key, (64, 100, 100, 10), jax.nn.initializers.he_normal())
        return [Layer(l["kernel"], jnp.ones_like(l["bias"]), l["bias"]) for l in layers]

    def trained(params, key, penalty):
        objective = lambda p, i: (lambda x, y: optax.softmax_cross_entropy_with_integer_labels(normalised(p, x), y))(
            *batch(key, i)
        ).mean()
        return descend(optax.chain(penalty, optax.sgd(0.1)), objective, params, steps)

    @jax.jit
    @jax.vmap
    def compared(key):
        baseline = trained(begun(key), key, optax.identity())
        scales = filters.only(baseline, lambda p: [Layer(False, True, False)] * 2 + [Layer(False, False, False)])
        keep = jt.select(jax.tree.map(jnp.abs, scales), 0.5)
        key = jax.random.fold_in(key, 1)
        ends = {
            "plain": trained(baseline, key, optax.identity()),
            "masked": trained(baseline, key, transforms.add_l1(strength, masks.complement(keep))),
            "everywhere": trained(baseline, key, transforms.add_l1(strength, masks.full_like(keep))),
        }
        images, labels = digits()[1]
        right = lambda p: 100 * jnp.mean(normalised(p, images).argmax(-1) == labels)
        kept = lambda p: jnp.mean(jnp.stack([jnp.mean(jnp.abs(l.scale), where=m.scale) for l, m in zip(p[:2], keep)]))
        pruned = lambda p: jnp.max(jnp.stack([jnp.abs(l.scale * ~m.scale).max() for l, m in zip(p[:2], keep)]))
        zeroed = masks.apply_mask(ends["masked"], keep)
        return {name: (kept(p), pruned(p), right(p)) for name, p in ends.items()} | {"zeroed": right(zeroed)}

    found = jax.tree.map(np.asarray, compared(KEYS))
    for name in ("plain", "masked", "everywhere"):
        print(f"{name}: mean kept, largest pruned |scale|, accuracy: {[x.round(4).tolist() for x in found[name]]}")
    assert found["masked"][1].max() < 0.02
    assert abs(found["masked"][0] / found["plain"][0] - 1).max() < 0.2
    assert (found["everywhere"][0] / found["plain"][0]).max() < 0.8
    assert abs(found["zeroed"] - found["masked"][2]).max() < 0.3


def test_ap_lowers_the_dynamic_dead_neuron_rate():
    """64-100-100-10, iterative pruning to 13 % with and without AP, of the same counts at each level."""
    densities = schedules.levels(10)

    def search(with_ap, key):
        init_key, order_key, search_key = jax.random.split(key, 3)
        params = init(init_key, (64, 100, 100, 10))

        def train(params, state, mask, key, *, step, opt_state):
            tx = jt.sparsify(ADAM, jt.static(), mask=mask)
            params = descend(tx, lambda p, i: loss(p, batch(order_key, i)), params, 300)
            return Trained(params, state, {})

        chooses = activate_while_pruning(loops.prune_by(), params) if with_ap else loops.prune_by()
        ticket = jt.Ticket(params, filters.full_mask(params, filters.weights()))
        levels = imp_scan(train, ticket, densities=densities, prune=chooses, key=search_key)
        return jax.vmap(measured)(levels.trained.params, levels.mask), [m["kernel"].sum((1, 2)) for m in levels.mask]

    def measured(params, mask):
        x, rates = digits()[1][0], []
        for layer, m in zip(params[:-1], mask[:-1]):
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
            rates.append(diagnostics.dead_neurons(x, cut=diagnostics.cut_off(m["kernel"])))
        return [jnp.stack([getattr(r, name) for r in rates]).mean() for name in ("dynamic", "static")] + [
            accuracy(params, digits()[1])
        ]

    found = {}
    for with_ap in (False, True):
        (dynamic, static, right), kept = jax.jit(jax.vmap(functools.partial(search, with_ap)))(KEYS)
        found[with_ap] = np.asarray(dynamic)
        counts = np.round(np.float32(densities) * np.float32(17400)).astype(int)
        np.testing.assert_array_equal(sum(map(np.asarray, kept)), np.broadcast_to(counts, (SEEDS, 10)))
        name = "AP" if with_ap else "magnitude"
        print(f"{name}: dynamic {np.mean(dynamic, 0).round(3)}, static {np.mean(static, 0).round(3)}")
        print(f"  accuracy {np.mean(right, 0).round(2)}")
    fewer = 100 * (found[False] - found[True])[:, 1:].mean(1)
    show(points_fewer=fewer)
    assert fewer.mean() >= 1.5
    assert diagnostics.interval(fewer.tolist()).low > 0
