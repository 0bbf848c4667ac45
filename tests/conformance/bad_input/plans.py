"""Rows of mask transforms, plans and optax transforms."""

from typing import Any

import jax.numpy as jnp
import optax

import jaxticket as jt
from jaxticket import filters, schedules, scores, transforms
from tests.conformance.bad_input.roles import Count, Fraction, MaskTree, Positive, Stack, Tree
from tests.conformance.bad_input.values import (
    ALONE,
    GRADS,
    OPTIONAL,
    OTHER,
    PARAMS,
    TX,
    Call,
    D,
    G,
    K,
    M,
    N,
    P,
    call,
    evolve,
    on_host,
    optimize,
    step,
)

RATED = optax.adam(optax.linear_schedule(0.1, 0.0, 100))  # its state counts the steps of a schedule


def _adam(moments: Any) -> Any:
    adam, rate = TX.init(PARAMS)
    return adam._replace(mu=moments), rate


PLANS: dict[str, Call] = {
    "transforms.describe": on_host(
        lambda params, stacked: transforms.describe(jt.static(0.5), params, stacked=stacked),
        params=ALONE,
        stacked=Stack({"a/kernel": 0}),
    ),
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
    "transforms.remake": call(
        lambda density, params, mask: evolve(transforms.remake(scores.magnitude, density), params, mask),
        density=D,
        params=P,
        mask=OPTIONAL,
    ),
    "transforms.soft_prune": call(
        lambda density, params, grads: optimize(transforms.soft_prune(density, when=schedules.every(1)), params, grads),
        density=D,
        params=P,
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
    "transforms.average_gradients": call(
        lambda decay, params, mask: evolve(
            transforms.average_gradients(transforms.prune(scores.magnitude, 0.5), decay=decay), params, mask
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
    "transforms.track_explored": call(
        lambda params, mask: evolve(transforms.track_explored(transforms.prune(scores.magnitude, 0.5)), params, mask),
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
        lambda density, stop, every, params, stacked: step(
            transforms.gradual(density, stop=stop, every=every, stacked=stacked), params
        ),
        density=D,
        stop=N,
        every=N,
        params=P,
        stacked=Stack({"a/kernel": 0}),
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
    "transforms.granet_uniform": call(
        lambda density, initial, fraction, params: step(
            transforms.granet_uniform(density, stop=10, steps=20, initial=initial, drop_fraction=fraction), params
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
    "transforms.init": call(
        lambda params, moments: jt.init(jt.sparsify(TX, transforms.static(0.5)), params, opt_state=_adam(moments)),
        params=P,
        moments=Tree(GRADS),
    ),
    "transforms.resume_schedules": call(
        lambda params, step: transforms.resume_schedules(RATED, RATED.init(PARAMS), params, step=step),
        params=P,
        step=Count(3),
    ),
    "transforms.reset_moments": call(
        lambda params, chosen: transforms.reset_moments(TX, TX.init(PARAMS), params, chosen),
        params=P,
        chosen=MaskTree(OTHER),
    ),
}
