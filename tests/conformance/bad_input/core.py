"""Rows of pure functions of pytrees and numbers."""

import jax.numpy as jnp
import optax

import jaxticket as jt
from jaxticket import allocate, diagnostics, execution, filters, masks, schedules, scopes, scores, units
from jaxticket.tickets import rewinds
from jaxticket.typing import Trained
from tests.conformance.bad_input.roles import (
    Array,
    Axis,
    Count,
    Fraction,
    MaskTree,
    Number,
    Numbers,
    Positive,
    Regex,
    Rules,
    Stack,
    Tree,
)
from tests.conformance.bad_input.values import (
    ALONE,
    BATCHES,
    GRADS,
    MASK,
    MASK_ALONE,
    OPTIONAL,
    OTHER,
    PARAMS,
    SCORES,
    SOFT,
    TX,
    Call,
    D,
    G,
    K,
    M,
    N,
    P,
    S,
    U,
    W,
    call,
    loss,
    network,
    on_host,
    scale_of,
    ticket,
)

STACKED = Stack({"a/kernel": 0})
KERNEL, BITS = Array(jnp.arange(24.0).reshape(4, 6)), Array(jnp.ones((4, 6), bool))

CORE: dict[str, Call] = {
    "filters.match": call(
        lambda regex, params: filters.match(regex)(params), regex=Regex("kernel"), params=Tree(PARAMS, filtered=True)
    ),
    "filters.weights": call(
        lambda include, exclude, params: filters.weights(include=include, exclude=exclude)(params),
        include=Regex("kernel", optional=True),
        exclude=Regex("bias", optional=True),
        params=Tree(PARAMS, filtered=True),
    ),
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
    "masks.outside": call(masks.outside, params=P, mask=M),
    "masks.rescale_init": call(masks.rescale_init, params=P, mask=M),
    "masks.summary": on_host(masks.summary, params=P, mask=M, stacked=STACKED),
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
    "units.by_slice": call(
        lambda stacked, s: jt.select(s, 0.5, unit=units.by_slice(units.axis(0), stacked)),
        stacked=STACKED,
        s=Tree(SCORES, paired=False),
    ),
    "scopes.by_slice": call(
        lambda stacked, s: jt.select(s, 0.5, scope=scopes.by_slice(scopes.leaf(), stacked)),
        stacked=STACKED,
        s=Tree(SCORES, paired=False),
    ),
    "scopes.slices": call(
        lambda axis, s: jt.select(s, 0.5, scope=scopes.slices(axis)), axis=Axis(1), s=Tree(SCORES, paired=False)
    ),
    "scopes.groups": call(
        lambda m, axis, s: jt.select(s, 0.5, scope=scopes.groups(m, axis=axis)),
        m=Count(4),
        axis=Axis(0, optional=True),
        s=Tree(SCORES, paired=False),
    ),
    "scopes.input_axes": call(lambda params: scopes.input_axes(network, params, jnp.ones((2, 4))), params=U),
    "masks.is_nm": call(
        lambda mask, n, m, axis: masks.is_nm(mask, n, m, axis=axis),
        mask=MASK_ALONE,
        n=Count(2),
        m=Count(4),
        axis=Axis(0, optional=True),
    ),
    "selection.threshold": call(jt.selection.threshold, scores=Tree(SCORES, paired=False), k=Count(5)),
    "selection.select": call(jt.select, scores=S, density=D, mask=OPTIONAL, stacked=STACKED),
    "selection.drop_and_grow": call(
        jt.drop_and_grow, mask=M, drop=S, grow=Tree(SCORES), density=D, drop_fraction=Fraction(0.3), stacked=STACKED
    ),
    "scores.magnitude": call(scores.magnitude, params=ALONE),
    "scores.random": call(scores.random, params=ALONE, key=K),
    "scores.unfired": call(
        lambda params, explored, key: scores.unfired(params, key=key, explored=explored),
        params=P,
        explored=M,
        key=K,
    ),
    "scores.gradient": call(scores.gradient, params=P, grads=G),
    "scores.saliency": call(scores.saliency, params=P, grads=G),
    "scores.movement": call(scores.movement, params=P, grads=G),
    "scores.momentum": call(lambda params: scores.momentum(params, aux=optax.adam(0.1).init(PARAMS)), params=P),
    "scores.lamp": call(
        lambda params, stacked: scores.lamp(scores.magnitude, stacked=stacked)(params), params=ALONE, stacked=STACKED
    ),
    "scores.layer_mean": call(
        lambda params, stacked: scores.layer_mean(scores.magnitude, stacked=stacked)(params),
        params=ALONE,
        stacked=STACKED,
    ),
    "scores.unit_norm": call(
        lambda params, stacked: scores.unit_norm(scores.magnitude, stacked=stacked)(params),
        params=ALONE,
        stacked=STACKED,
    ),
    "scores.module": call(
        lambda params, stacked: scores.module(scores.magnitude, lambda path: path, stacked=stacked)(params),
        params=ALONE,
        stacked=STACKED,
    ),
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
    "allocate.uniform": on_host(allocate.uniform, params=ALONE, density=D, where=W, minimum=Count(1), stacked=STACKED),
    "allocate.uniform_plus": on_host(
        lambda params, density, first, last: allocate.uniform_plus(params, density, first=first, last=last),
        params=ALONE,
        density=Fraction(0.8),
        first=Regex("^a/kernel"),
        last=Regex("^b/kernel"),
    ),
    "allocate.erdos_renyi": on_host(
        allocate.erdos_renyi, params=ALONE, density=D, where=W, minimum=Count(1), stacked=STACKED
    ),
    "allocate.erk": on_host(
        allocate.erk, params=ALONE, density=D, where=W, minimum=Count(1), power=Positive(1.0), stacked=STACKED
    ),
    "allocate.rules": on_host(
        allocate.rules, params=ALONE, density_rules=Rules({"a/kernel": 0.3}), default=D, where=W, stacked=STACKED
    ),
    "allocate.for_flops": on_host(allocate.for_flops, params=ALONE, fraction=D, where=W, stacked=STACKED),
    "allocate.from_mask": on_host(allocate.from_mask, params=P, mask=M, stacked=STACKED),
    "allocate.from_scores": on_host(
        allocate.from_scores, params=P, scores=S, density=D, minimum=Count(0), stacked=STACKED
    ),
    "allocate.rate_distortion": on_host(
        lambda params, density, levels: allocate.rate_distortion(
            params, network, jnp.ones((2, 4)), density, levels=levels
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
    "diagnostics.layer_collapse": on_host(
        lambda mask, stacked: diagnostics.layer_collapse([OTHER, mask], stacked=stacked),
        mask=MASK_ALONE,
        stacked=STACKED,
    ),
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
        lambda params, vector: diagnostics.hessian_product(params, lambda p: loss(p, BATCHES[0]), vector),
        params=U,
        vector=G,
    ),
    "diagnostics.hessian_top": call(
        lambda params, mask, key, n: diagnostics.hessian_top(
            params, lambda p: loss(p, BATCHES[0]), key=key, mask=mask, iterations=n
        ),
        params=U,
        mask=OPTIONAL,
        key=K,
        n=N,
    ),
    "diagnostics.hessian_trace": call(
        lambda params, mask, key, n: diagnostics.hessian_trace(
            params, lambda p: loss(p, BATCHES[0]), key=key, mask=mask, samples=n
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
        lambda params, mask: diagnostics.effective_mask(params, mask, network, jnp.ones((2, 4))), params=U, mask=M
    ),
    "execution.pack_dense": on_host(execution.pack_dense, kernel=KERNEL, mask=BITS),
    "execution.pack_nm": on_host(execution.pack_nm, kernel=KERNEL, mask=BITS, n=Count(4), m=Count(4)),
    "execution.pack_condensed": on_host(execution.pack_condensed, kernel=KERNEL, mask=BITS),
    "execution.pack_blocks": on_host(
        lambda kernel, mask, height: execution.pack_blocks(kernel, mask, block=(height, 2)),
        kernel=KERNEL,
        mask=BITS,
        height=Count(2),
    ),
    "execution.pack_monarch": call(
        lambda kernel, blocks, rank: execution.pack_monarch(kernel, blocks=blocks, rank=rank),
        kernel=KERNEL,
        blocks=Count(2),
        rank=Count(1),
    ),
    "execution.draw_monarch": call(
        lambda key, blocks, rank: execution.draw_monarch((4, 6), key=key, blocks=blocks, rank=rank),
        key=K,
        blocks=Count(2),
        rank=Count(1),
    ),
    "execution.pack_bcsr": on_host(execution.pack_bcsr, kernel=KERNEL, mask=BITS),
    "execution.pack_all": on_host(execution.pack_all, kernel=KERNEL, mask=BITS),
    "execution.matmul": call(
        lambda x: execution.matmul(x, execution.pack_bcsr(KERNEL.value, BITS.value)), x=Array(jnp.ones((3, 4)))
    ),
    "execution.fastest": on_host(execution.fastest, kernel=KERNEL, mask=BITS, batch=Count(2), rounds=Count(1)),
    "execution.time_rounds": on_host(
        lambda rounds: execution.time_rounds({"nothing": lambda: 0}, rounds), rounds=Count(1)
    ),
    "execution.measure": on_host(
        lambda batch, rounds: execution.measure(
            execution.pack_all(KERNEL.value, BITS.value), batch=batch, rounds=rounds
        ),
        batch=Count(2),
        rounds=Count(1),
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
    "schedules.staircase": on_host(
        lambda initial, first: schedules.staircase(initial, steps=[first, 20])(jnp.int32(3)),
        initial=Fraction(0.3),
        first=Count(10),
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
}
