"""The table of `test_bad_input.py`: every public function by its name."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxticket as jt
from jaxticket import (
    allocate,
    diagnostics,
    filters,
    loops,
    masks,
    reparam,
    schedules,
    scopes,
    scores,
    transforms,
    units,
)
from jaxticket.tickets import Ticket, rewinds
from jaxticket.typing import Trained
from tests.conformance.bad_input import (
    ALONE,
    BATCHES,
    GRADS,
    HALF,
    KEY,
    MASK,
    MASK_ALONE,
    OPTIONAL,
    OTHER,
    PARAMS,
    SCORES,
    SOFT,
    Array,
    Axis,
    Call,
    Count,
    D,
    Filter,
    Fraction,
    G,
    M,
    MaskTree,
    N,
    Number,
    Numbers,
    P,
    Positive,
    Random,
    Regex,
    Rules,
    S,
    Tree,
    U,
    call,
    loss,
    network,
    on_host,
)

K = Random(KEY)
W = Filter(filters.weights())
SCALES = {"a": {"kernel": jnp.ones((4, 6)), "scale": jnp.ones(6)}}
COUNT = 7


def step(plan: Any, params: Any, grads: Any = GRADS, key: Any = KEY) -> Any:
    """One update under a plan."""
    tx = jt.sparsify(optax.sgd(0.1, momentum=0.9), plan, key=key)
    params, state = jt.init(tx, params)
    return tx.update(grads, state, params)


def optimize(tx: Any, params: Any, grads: Any = GRADS) -> Any:
    return tx.update(grads, tx.init(params), params)


def realise(method: Any, params: Any, key: Any = KEY) -> Any:
    latent = method.init(params, key)
    return method.realise(latent, count=jnp.int32(3), key=KEY), method.mask(latent, count=jnp.int32(3))


def latent_of(method: Any) -> Any:
    return method.init(PARAMS, KEY)


def evolve(transform: Any, params: Any, mask: Any, grads: Any = GRADS, key: Any = KEY) -> Any:
    mask, state = transform.init(params, mask, key=key)
    aux = optax.sgd(0.1, momentum=0.9).init(PARAMS)
    return transform.update(mask, state, params=params, grads=grads, count=jnp.int32(0), key=key, aux=aux)


def train(params: Any, state: Any, mask: Any, key: Any, *, step: int, opt_state: Any) -> Trained:
    return Trained(params, state, {"accuracy": jnp.float32(1)})


def ticket(params: Any = PARAMS, mask: Any = MASK, **others: Any) -> Ticket:
    return Ticket(params, mask, **others)


def searched(function: Any, **arguments: Any) -> Any:
    return list(function(train, ticket(), prune=loops.prune.by(), key=KEY, **arguments))


def scale_of(path: str) -> str | None:
    return path.replace("kernel", "scale") if path.endswith("kernel") else None


def draw(key: Any) -> Any:
    return PARAMS, None


PRUNE = loops.prune.by()
TX = optax.adam(0.1)
PDP = reparam.edge_popup(0.5)

TABLE: dict[str, Call] = {
    "filters.match": call(
        lambda regex, params: filters.match(regex)(params), regex=Regex("kernel"), params=Tree(PARAMS, filtered=True)
    ),
    "filters.weights": call(lambda params: filters.weights()(params), params=Tree(PARAMS, filtered=True)),
    "filters.everything": call(lambda params: filters.everything()(params), params=Tree(PARAMS, filtered=True)),
    "filters.only": call(filters.only, tree=ALONE, where=W),
    "filters.full_mask": call(filters.full_mask, params=ALONE, where=W),
    "masks.complement": call(masks.complement, mask=MASK_ALONE),
    "masks.full_like": call(masks.full_like, mask=Tree(MASK, paired=False)),
    "masks.empty_like": call(masks.empty_like, mask=Tree(MASK, paired=False)),
    "masks.difference": call(masks.difference, a=M, b=MaskTree(OTHER)),
    "masks.intersection": call(masks.intersection, a=M, b=MaskTree(OTHER)),
    "masks.union": call(masks.union, a=M, b=MaskTree(OTHER)),
    "masks.apply_mask": call(masks.apply_mask, params=P, mask=M),
    "masks.gate": call(masks.gate, params=P, soft_mask=Tree(SOFT)),
    "masks.churn": call(masks.churn, params=P, old=M, new=MaskTree(OTHER)),
    "masks.hamming": call(masks.hamming, params=P, a=M, b=MaskTree(OTHER)),
    "masks.iou": call(masks.iou, params=P, a=M, b=MaskTree(OTHER)),
    "masks.density": call(masks.density, params=P, mask=M),
    "masks.nnz": call(masks.nnz, params=P, mask=M),
    "masks.summary": on_host(masks.summary, params=P, mask=M),
    "masks.pack": call(masks.pack, mask=MASK_ALONE),
    "units.axis": call(
        lambda axis, s: jt.select(s, 0.5, unit=units.axis(axis)), axis=Axis(1), s=Tree(SCORES, paired=False)
    ),
    "units.block": call(
        lambda n, s: jt.select(s, 0.5, unit=units.block(n, 2)), n=Count(2), s=Tree(SCORES, paired=False)
    ),
    "units.heads": call(lambda n, s: jt.select(s, 0.5, unit=units.heads(n)), n=Count(2), s=Tree(SCORES, paired=False)),
    "units.leaf": call(
        lambda s: jt.select(s, 0.5, unit=units.leaf(), scope=scopes.tree()), s=Tree(SCORES, paired=False)
    ),
    "scopes.slices": call(
        lambda axis, s: jt.select(s, 0.5, scope=scopes.slices(axis)), axis=Axis(1), s=Tree(SCORES, paired=False)
    ),
    "scopes.groups": call(
        lambda m, s: jt.select(s, 0.5, scope=scopes.groups(m)), m=Count(4), s=Tree(SCORES, paired=False)
    ),
    "selection.threshold": call(jt.selection.threshold, scores=Tree(SCORES, paired=False), k=Count(5)),
    "selection.select": call(jt.select, scores=S, density=D, mask=OPTIONAL),
    "selection.drop_and_grow": call(
        jt.drop_and_grow, mask=M, drop=S, grow=Tree(SCORES), density=D, drop_fraction=Fraction(0.3)
    ),
    "scores.magnitude": call(scores.magnitude, params=ALONE),
    "scores.random": call(scores.random, params=ALONE, key=K),
    "scores.gradient": call(scores.gradient, params=P, grads=G),
    "scores.saliency": call(scores.saliency, params=P, grads=G),
    "scores.movement": call(scores.movement, params=P, grads=G),
    "scores.momentum": call(lambda params: scores.momentum(params, aux=optax.adam(0.1).init(PARAMS)), params=P),
    "scores.lamp": call(lambda params: scores.lamp(scores.magnitude)(params), params=ALONE),
    "scores.layer_mean": call(lambda params: scores.layer_mean(scores.magnitude)(params), params=ALONE),
    "scores.unit_norm": call(lambda params: scores.unit_norm(scores.magnitude)(params), params=ALONE),
    "scores.module": call(lambda params: scores.module(scores.magnitude, lambda path: path[0])(params), params=ALONE),
    "scores.weighted_sum": call(
        lambda weight, params, grads: scores.weighted_sum((scores.magnitude, weight), (scores.saliency, 1.0))(
            params, grads=grads
        ),
        weight=Number(2.0),
        params=P,
        grads=G,
    ),
    "scores.fpgm": call(lambda density, params: scores.fpgm(norm_density=density)(params), density=D, params=ALONE),
    "scores.slimming": call(
        lambda params: scores.slimming(scale_of)(params),
        params=Tree(
            {"a": {"kernel": jnp.ones((4, 6)), "scale": jnp.ones(6), "bias": jnp.ones(6)}, "b": {"bias": jnp.ones(1)}},
            paired=False,
        ),
    ),
    "scores.snip": call(lambda params: scores.snip(loss, BATCHES)(params), params=U),
    "scores.grasp": call(lambda params: scores.grasp(loss, BATCHES)(params), params=U),
    "scores.fisher": call(lambda params: scores.fisher(loss, BATCHES)(params), params=U),
    "scores.taylor": call(lambda params: scores.taylor(loss, BATCHES)(params), params=U),
    "scores.synflow": call(lambda params: scores.synflow(network, jnp.ones((2, 4)))(params), params=U),
    "scores.wanda": call(lambda params: scores.wanda(network, BATCHES)(params), params=U),
    "scores.activation_norm": call(lambda params: scores.activation_norm(network, BATCHES)(params), params=U),
    "scores.activation_taylor": call(lambda params: scores.activation_taylor(loss, BATCHES)(params), params=U),
    "scores.apoz": call(lambda params: scores.apoz(network, BATCHES)(params), params=U),
    "scores.hrank": call(lambda params: scores.hrank(network, BATCHES)(params), params=U),
    "scores.mean_activation": call(lambda params: scores.mean_activation(network, BATCHES)(params), params=U),
    "allocate.uniform": on_host(allocate.uniform, params=ALONE, density=D, where=W, minimum=Count(1)),
    "allocate.uniform_plus": on_host(
        lambda params, density, first, last: allocate.uniform_plus(params, density, first=first, last=last),
        params=ALONE,
        density=Fraction(0.8),
        first=Regex("^a/kernel"),
        last=Regex("^b/kernel"),
    ),
    "allocate.erdos_renyi": on_host(allocate.erdos_renyi, params=ALONE, density=D, where=W, minimum=Count(1)),
    "allocate.erk": on_host(allocate.erk, params=ALONE, density=D, where=W, minimum=Count(1), power=Positive(1.0)),
    "allocate.rules": on_host(allocate.rules, params=ALONE, density_rules=Rules({"a/kernel": 0.3}), default=D, where=W),
    "allocate.for_flops": on_host(allocate.for_flops, params=ALONE, fraction=D, where=W),
    "allocate.from_mask": on_host(allocate.from_mask, params=P, mask=M),
    "allocate.from_scores": on_host(allocate.from_scores, params=P, scores=S, density=D, minimum=Count(0)),
    "allocate.rate_distortion": on_host(
        lambda params, density, levels: allocate.rate_distortion(
            network, params, jnp.ones((2, 4)), density, levels=levels
        ),
        params=U,
        density=D,
        levels=Count(5),
    ),
    "diagnostics.flops": on_host(diagnostics.flops, params=P, mask=OPTIONAL, where=W),
    "diagnostics.scratch_e": on_host(
        lambda epochs, steps, milestones: diagnostics.scratch_e(epochs, steps_per_epoch=steps, milestones=milestones),
        epochs=N,
        steps=N,
        milestones=Numbers([0.5, 0.75]),
    ),
    "diagnostics.scratch_b": on_host(
        lambda epochs, dense, pruned, cap: diagnostics.scratch_b(
            epochs, dense_flops=dense, pruned_flops=pruned, steps_per_epoch=10, cap=cap
        ),
        epochs=N,
        dense=Count(10),
        pruned=Count(5),
        cap=Positive(2.0),
    ),
    "diagnostics.layer_collapse": on_host(lambda mask: diagnostics.layer_collapse([OTHER, mask]), mask=MASK_ALONE),
    "diagnostics.barrier": on_host(
        lambda a, b, alphas: diagnostics.barrier(
            lambda params, state: loss(params, BATCHES[0]),
            diagnostics.Endpoint(a),
            diagnostics.Endpoint(b),
            alphas=alphas,
        ),
        a=U,
        b=U,
        alphas=Numbers([0.0, 1.0]),
    ),
    "diagnostics.lerp": call(lambda a, b: diagnostics.lerp(a, b, 0.5), a=P, b=Tree(GRADS)),
    "diagnostics.hessian_product": call(
        lambda params, vector: diagnostics.hessian_product(lambda p: loss(p, BATCHES[0]), params, vector),
        params=U,
        vector=G,
    ),
    "diagnostics.hessian_top": call(
        lambda params, mask, key, n: diagnostics.hessian_top(
            lambda p: loss(p, BATCHES[0]), params, key=key, mask=mask, iterations=n
        ),
        params=U,
        mask=OPTIONAL,
        key=K,
        n=N,
    ),
    "diagnostics.hessian_trace": call(
        lambda params, mask, key, n: diagnostics.hessian_trace(
            lambda p: loss(p, BATCHES[0]), params, key=key, mask=mask, samples=n
        ),
        params=U,
        mask=OPTIONAL,
        key=K,
        n=N,
    ),
    "diagnostics.interval": on_host(diagnostics.interval, values=Numbers([1.0, 2.0, 3.0]), confidence=Fraction(0.95)),
    "diagnostics.filter_quality": call(diagnostics.filter_quality, kernel=Array(jnp.ones((3, 3, 4, 5)))),
    "diagnostics.cut_off": call(diagnostics.cut_off, mask=Array(jnp.ones((4, 6), bool))),
    "diagnostics.dead_neurons": call(
        diagnostics.dead_neurons, activations=Array(jnp.ones((4, 6))), cut=Array(jnp.ones(6, bool))
    ),
    "diagnostics.overlaps": on_host(lambda params, mask: diagnostics.overlaps(params, [OTHER, mask]), params=P, mask=M),
    "diagnostics.effective_mask": call(
        lambda params, mask: diagnostics.effective_mask(network, params, mask, jnp.ones((2, 4))), params=U, mask=M
    ),
    "diagnostics.linear_cka": call(diagnostics.linear_cka, x=Array(jnp.ones((4, 6))), y=Array(jnp.ones((4, 3)))),
    "diagnostics.early_stopping_step": on_host(
        diagnostics.early_stopping_step, steps=Numbers([1, 2, 3]), losses=Numbers([3.0, 1.0, 2.0])
    ),
    "diagnostics.steps_to_reach": on_host(
        lambda target, steps, values: diagnostics.steps_to_reach(target, steps=steps, values=values),
        target=Number(2.0),
        steps=Numbers([1, 2, 3]),
        values=Numbers([1.0, 2.0, 3.0]),
    ),
    "diagnostics.verdict": on_host(
        lambda dense, found, best: diagnostics.verdict(dense, found, [0.1, 0.2], [0.1, 0.2], best=best),
        dense=Numbers([0.1, 0.2]),
        found=Numbers([0.1, 0.2]),
        best=Fraction(0.9),
    ),
    "tickets.rewinds.fine_tune": on_host(rewinds.fine_tune, step=N),
    "tickets.rewinds.weights": call(
        lambda mask: rewinds.weights()(ticket(), Trained(GRADS, None, {}), mask), mask=MASK_ALONE
    ),
    "tickets.rewinds.learning_rate": call(
        lambda params: rewinds.learning_rate()(ticket(), Trained(params, None, {}), MASK), params=ALONE
    ),
    "tickets.rewinds.everything": call(
        lambda mask: rewinds.everything()(ticket(opt_state=TX.init(PARAMS)), Trained(GRADS, None, {}), mask), mask=M
    ),
    "tickets.rewinds.mask_state": call(
        lambda params, mask: rewinds.mask_state(TX.init(PARAMS), params, mask), params=P, mask=M
    ),
    "tickets.Ticket": on_host(lambda step: ticket(step=step), step=N),
    "tickets.rewind": call(lambda params, mask: jt.rewind(ticket(params, mask)), params=P, mask=M),
    "schedules.constant": on_host(lambda density: schedules.constant(density)(3), density=D),
    "schedules.one_shot": on_host(lambda density, step: schedules.one_shot(density, step=step)(3), density=D, step=N),
    "schedules.cubic": on_host(
        lambda density, start, stop, initial: schedules.cubic(density, start=start, stop=stop, initial=initial)(3),
        density=D,
        start=Count(1),
        stop=N,
        initial=Fraction(1.0),
    ),
    "schedules.levels": on_host(lambda n, rate: schedules.levels(n, rate=rate), n=N, rate=Fraction(0.2)),
    "schedules.cosine": on_host(
        lambda initial, stop, final: schedules.cosine(initial, stop=stop, final=final)(jnp.int32(3)),
        initial=Fraction(0.3),
        stop=N,
        final=Fraction(0.1),
    ),
    "schedules.power": on_host(
        lambda initial, stop, exponent: schedules.power(initial, stop=stop, exponent=exponent)(jnp.int32(3)),
        initial=Fraction(0.3),
        stop=N,
        exponent=Positive(1.0),
    ),
    "schedules.fixed": on_host(lambda value: schedules.fixed(value)(jnp.int32(3)), value=Fraction(0.3)),
    "schedules.every": on_host(
        lambda n, start, stop: schedules.every(n, start=start, stop=stop)(jnp.int32(3)), n=N, start=Count(1), stop=N
    ),
    "schedules.at": on_host(lambda steps: schedules.at(steps)(jnp.int32(3)), steps=Numbers([1, 2])),
    "transforms.start": call(
        lambda density, params: step(transforms.Plan(transforms.start(scores.magnitude, density), None), params),
        density=D,
        params=P,
    ),
    "transforms.prune": call(
        lambda density, params, mask, minimum: evolve(
            transforms.prune(scores.magnitude, density, minimum=minimum), params, mask
        ),
        density=D,
        params=P,
        mask=OPTIONAL,
        minimum=Count(0),
    ),
    "transforms.regrow": call(
        lambda fraction, params, mask, grads: evolve(
            transforms.regrow(scores.magnitude, scores.gradient, fraction), params, mask, grads
        ),
        fraction=Fraction(0.3),
        params=P,
        mask=M,
        grads=G,
    ),
    "transforms.redistribute": call(
        lambda fraction, params, mask, grads: evolve(
            transforms.redistribute(scores.magnitude, scores.gradient, fraction), params, mask, grads
        ),
        fraction=Fraction(0.3),
        params=P,
        mask=M,
        grads=G,
    ),
    "transforms.alternate": call(
        lambda density, params, mask: evolve(
            transforms.alternate(scores.magnitude, density, compress=schedules.at([0]), decompress=schedules.at([5])),
            params,
            mask,
        ),
        density=D,
        params=P,
        mask=OPTIONAL,
    ),
    "transforms.averaged": call(
        lambda decay, params, mask: evolve(
            transforms.averaged(transforms.prune(scores.magnitude, 0.5), decay=decay), params, mask
        ),
        decay=Fraction(0.9),
        params=P,
        mask=OPTIONAL,
    ),
    "transforms.chain": call(
        lambda params, mask: evolve(transforms.chain(transforms.prune(scores.magnitude, 0.5)), params, mask),
        params=P,
        mask=OPTIONAL,
    ),
    "transforms.exploring": call(
        lambda params, mask: evolve(transforms.exploring(transforms.prune(scores.magnitude, 0.5)), params, mask),
        params=P,
        mask=OPTIONAL,
    ),
    "transforms.shrink": call(
        lambda density, rate, params: optimize(transforms.shrink(density, rate, stop=10), params),
        density=D,
        rate=Fraction(0.9),
        params=P,
    ),
    "transforms.static": call(
        lambda density, params, grads: step(transforms.static(density), params, grads), density=D, params=P, grads=G
    ),
    "transforms.gradual": call(
        lambda density, stop, every, params: step(transforms.gradual(density, stop=stop, every=every), params),
        density=D,
        stop=N,
        every=N,
        params=P,
    ),
    "transforms.rigl": call(
        lambda density, fraction, stop, every, params, grads: step(
            transforms.rigl(density, stop=stop, every=every, drop_fraction=fraction), params, grads
        ),
        density=D,
        fraction=Fraction(0.3),
        stop=N,
        every=N,
        params=P,
        grads=G,
    ),
    "transforms.sparse_evolutionary": call(
        lambda density, fraction, every, params: step(
            transforms.sparse_evolutionary(density, every=every, drop_fraction=fraction), params
        ),
        density=D,
        fraction=Fraction(0.3),
        every=N,
        params=P,
    ),
    "transforms.snfs": call(
        lambda density, fraction, decay, params: step(
            transforms.snfs(density, stop=1000, drop_fraction=fraction, decay=decay), params
        ),
        density=D,
        fraction=Fraction(0.3),
        decay=Fraction(0.9),
        params=P,
    ),
    "transforms.itop": call(
        lambda density, fraction, params: step(transforms.itop(density, steps=10, drop_fraction=fraction), params),
        density=D,
        fraction=Fraction(0.3),
        params=P,
    ),
    "transforms.mest": call(
        lambda density, fraction, params: step(transforms.mest(density, stop=1000, drop_fraction=fraction), params),
        density=D,
        fraction=Fraction(0.3),
        params=P,
    ),
    "transforms.granet": call(
        lambda density, initial, fraction, params: step(
            transforms.granet(density, stop=10, steps=20, initial=initial, drop_fraction=fraction), params
        ),
        density=Fraction(0.3),
        initial=Fraction(0.5),
        fraction=Fraction(0.3),
        params=P,
    ),
    "transforms.ac_dc": call(
        lambda density, steps, params: step(transforms.ac_dc(density, steps=steps), params),
        density=D,
        steps=Count(100),
        params=P,
    ),
    "transforms.iss_p": call(
        lambda density, rate, params: step(transforms.iss_p(density, stop=10, rate=rate), params),
        density=D,
        rate=Fraction(0.9),
        params=P,
    ),
    "transforms.freeze": call(lambda mask, grads: optimize(transforms.freeze(mask), PARAMS, grads), mask=M, grads=G),
    "transforms.keep_params_sparse": call(
        lambda mask, params, grads: optimize(transforms.keep_params_sparse(mask), params, grads),
        mask=M,
        params=P,
        grads=G,
    ),
    "transforms.add_l1": call(
        lambda strength, params, grads: optimize(transforms.add_l1(strength), params, grads),
        strength=Positive(0.1),
        params=P,
        grads=G,
    ),
    "transforms.prox_l1": call(
        lambda strength, params, grads: optimize(transforms.prox_l1(strength), params, grads),
        strength=Positive(0.1),
        params=P,
        grads=G,
    ),
    "transforms.project_l0": call(
        lambda density, params, grads: optimize(transforms.project_l0(density), params, grads),
        density=D,
        params=P,
        grads=G,
    ),
    "transforms.scales_to_keep": call(
        lambda params, energy: transforms.scales_to_keep(params, energy=energy, where=filters.everything()),
        params=ALONE,
        energy=Fraction(1e-4),
    ),
    "transforms.smooth_sign": call(lambda width: transforms.smooth_sign(width)(jnp.ones(3)), width=Positive(0.1)),
    "transforms.sparsify": call(
        lambda params, grads, mask, key: optimize(
            jt.sparsify(optax.sgd(0.1), transforms.static(0.5, score=scores.random), key=key, mask=mask), params, grads
        ),
        params=P,
        grads=G,
        mask=OPTIONAL,
        key=K,
    ),
    "transforms.init": call(lambda params: jt.init(jt.sparsify(TX, transforms.static(0.5)), params), params=ALONE),
    "transforms.reset_moments": call(
        lambda params, chosen: transforms.reset_moments(TX, TX.init(PARAMS), params, chosen),
        params=P,
        chosen=MaskTree(OTHER),
    ),
    "loops.branches.dense": call(lambda params, mask: loops.branches.dense(ticket(params, mask)), params=P, mask=M),
    "loops.branches.global_random_ticket": on_host(
        lambda params, mask, key: loops.branches.global_random_ticket(ticket(params, mask), key=key),
        params=P,
        mask=M,
        key=K,
    ),
    "loops.branches.random_ticket": on_host(
        lambda params, mask, key: loops.branches.random_ticket(ticket(params, mask), key=key), params=P, mask=M, key=K
    ),
    "loops.branches.inverted_mask": call(
        lambda params, mask: loops.branches.inverted_mask(ticket(params, mask)), params=P, mask=M
    ),
    "loops.branches.inverted_scores": on_host(
        lambda params, mask, scores: loops.branches.inverted_scores(ticket(params, mask), scores),
        params=P,
        mask=MaskTree(OTHER),
        scores=S,
    ),
    "loops.branches.random_reinit": call(
        lambda params, mask, key: loops.branches.random_reinit(ticket(params, mask), draw, key=key),
        params=P,
        mask=M,
        key=K,
    ),
    "loops.branches.sign_reinit": call(
        lambda params, mask, key: loops.branches.sign_reinit(ticket(params, mask), draw, key=key),
        params=P,
        mask=M,
        key=K,
    ),
    "loops.branches.transfer": call(
        lambda params, mask, key: loops.branches.transfer(ticket(params, mask), draw, key=key), params=P, mask=M, key=K
    ),
    "loops.early_bird.init": call(loops.early_bird.init, mask=MASK_ALONE, length=N),
    "loops.early_bird.update": call(
        lambda mask, tolerance: loops.early_bird.update(loops.early_bird.init(OTHER), mask, tolerance=tolerance),
        mask=MaskTree(OTHER),
        tolerance=Fraction(0.1),
    ),
    "loops.prune.by": call(
        lambda params, mask, density: PRUNE(params, mask, density, key=KEY), params=P, mask=M, density=D
    ),
    "loops.imp": on_host(
        lambda params, mask, densities, key: list(
            loops.imp(train, ticket(params, mask), densities=densities, prune=PRUNE, key=key)
        ),
        params=P,
        mask=M,
        densities=Numbers([1.0, 0.5]),
        key=K,
    ),
    "loops.imp_scan": call(
        lambda params, mask, densities, key: loops.imp_scan(
            train, ticket(params, mask), densities=densities, prune=PRUNE, key=key
        ),
        params=P,
        mask=MaskTree(OTHER),
        densities=Numbers([1.0, 0.5]),
        key=K,
    ),
    "loops.train_level": on_host(
        lambda params, mask, key: loops.train_level(train, ticket(params, mask), index=0, density=1.0, key=key),
        params=P,
        mask=M,
        key=K,
    ),
    "loops.level_keys": call(lambda key, index: loops.level_keys(key, index), key=K, index=Count(3)),
    "loops.soups.average": call(
        loops.soups.average,
        members=Tree(jax.tree.map(lambda x: jnp.stack([x, x]), PARAMS), paired=False),
    ),
    "loops.soups.shared_mask": on_host(
        loops.soups.shared_mask, masks=MaskTree(jax.tree.map(lambda x: jnp.stack([x, x]), OTHER), paired=False)
    ),
    "loops.soups.soup": call(
        lambda members, mask: loops.soups.soup(members, mask),
        members=Tree(jax.tree.map(lambda x: jnp.stack([x, x]), PARAMS)),
        mask=M,
    ),
    "loops.soups.ensemble": call(loops.soups.ensemble, logits=Array(jnp.ones((2, 3, 4)))),
    "loops.soups.phases": on_host(loops.soups.phases, density=D, count=N),
    "loops.divergence": call(
        lambda logits, teacher, temperature: loops.divergence(logits, teacher, temperature=temperature),
        logits=Array(jnp.ones((3, 4))),
        teacher=Array(jnp.ones((3, 4))),
        temperature=Positive(2.0),
    ),
    "reparam.straight_through": call(
        lambda density, params: realise(reparam.straight_through(density), params), density=D, params=ALONE
    ),
    "reparam.sr_ste": call(lambda density, params: realise(reparam.sr_ste(density), params), density=D, params=ALONE),
    "reparam.top_kast": call(
        lambda density, backward, params: realise(reparam.top_kast(density, backward=backward), params),
        density=Fraction(0.3),
        backward=Fraction(0.5),
        params=ALONE,
    ),
    "reparam.edge_popup": call(
        lambda density, params, key: realise(reparam.edge_popup(density), params, key), density=D, params=ALONE, key=K
    ),
    "reparam.biprop": call(
        lambda density, params, key: realise(reparam.biprop(density), params, key), density=D, params=ALONE, key=K
    ),
    "reparam.bip": call(lambda density, params: realise(reparam.bip(density), params), density=D, params=ALONE),
    "reparam.pdp": call(
        lambda density, params, start, stop: realise(reparam.pdp(density, start=start, ramp=5, stop=stop), params),
        density=D,
        params=ALONE,
        start=Count(0),
        stop=N,
    ),
    "reparam.signed_supermask": call(
        lambda threshold, params, key: realise(reparam.signed_supermask(threshold), params, key),
        threshold=Positive(0.4),
        params=ALONE,
        key=K,
    ),
    "reparam.soft_threshold": call(lambda params: realise(reparam.soft_threshold(), params), params=ALONE),
    "reparam.continuous_sparsification": call(
        lambda stop, temperature, params: realise(
            reparam.continuous_sparsification(stop=stop, temperature=temperature), params
        ),
        stop=N,
        temperature=Positive(200.0),
        params=ALONE,
    ),
    "reparam.hard_concrete": call(
        lambda stop, rate, params: realise(reparam.hard_concrete(stop=stop, drop_rate=rate), params),
        stop=N,
        rate=Fraction(0.5),
        params=ALONE,
    ),
    "reparam.weight_compander": on_host(
        lambda height, width, params: realise(reparam.weight_compander(height=height, width=width), params),
        height=Positive(30.0),
        width=Positive(0.5),
        params=ALONE,
    ),
    "reparam.additive": call(
        lambda mask, rank, density, params, key: realise(
            reparam.additive(mask, rank=rank, residual_density=density), params, key
        ),
        mask=OPTIONAL,
        rank=Count(1),
        density=D,
        params=P,
        key=K,
    ),
    "reparam.low_rank_residual": call(
        lambda rank, params: reparam.low_rank_residual(rank=rank)(params), rank=Count(1), params=ALONE
    ),
    "reparam.export": call(lambda params: reparam.export(PDP, PDP.init(params, KEY), count=3), params=ALONE),
    "reparam.groups": on_host(lambda params: reparam.groups(PDP.init(params, KEY)), params=ALONE),
    "reparam.kaiming_normal": call(
        lambda params, key, density: reparam.kaiming_normal(params, key, density=density),
        params=ALONE,
        key=K,
        density=D,
    ),
    "reparam.signed_constant": call(
        lambda params, key, scale, density: reparam.signed_constant(params, key, scale=scale, density=density),
        params=ALONE,
        key=K,
        scale=Positive(2.0),
        density=D,
    ),
    "reparam.continuous_penalty": call(
        lambda stop: reparam.continuous_penalty(
            latent_of(reparam.continuous_sparsification(stop=10)), count=3, stop=stop
        ),
        stop=N,
    ),
    "reparam.recycle": on_host(
        lambda fraction, mask: reparam.recycle(latent_of(PDP), fraction, mask=mask),
        fraction=Fraction(0.1),
        mask=MaskTree(HALF, optional=True),
    ),
    "reparam.rerandomise": call(
        lambda fraction, mask, key: reparam.rerandomise(latent_of(PDP), key, mask=mask, fraction=fraction),
        fraction=Fraction(0.3),
        mask=M,
        key=K,
    ),
}
