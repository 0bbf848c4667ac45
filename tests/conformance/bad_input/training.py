"""Rows of loops, branches and reparametrisations."""

import jax
import jax.numpy as jnp

from jaxticket import loops, reparam, training
from tests.conformance.bad_input.roles import Array, Count, Fraction, MaskTree, Number, Numbers, Positive, Stack, Tree
from tests.conformance.bad_input.values import (
    ALONE,
    HALF,
    KEY,
    MASK_ALONE,
    OPTIONAL,
    OTHER,
    PARAMS,
    PDP,
    PRUNE,
    Call,
    D,
    K,
    M,
    N,
    P,
    S,
    call,
    draw,
    latent_of,
    on_host,
    realise,
    ticket,
    train,
)

TRAINING: dict[str, Call] = {
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
    "loops.prune_by": call(
        lambda params, mask, density, stacked: loops.prune_by(stacked=stacked)(params, mask, density, key=KEY),
        params=P,
        mask=M,
        density=D,
        stacked=Stack({"a/kernel": 0}),
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
    "loops.level_keys": call(lambda key, index: loops.level_keys(index, key=key), key=K, index=Count(3)),
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
    "training.divergence": call(
        lambda logits, teacher, temperature: training.divergence(logits, teacher, temperature=temperature),
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
    "reparam.monarch": call(
        lambda blocks, rank, params, key: realise(reparam.monarch(blocks=blocks, rank=rank, draw=True), params, key),
        blocks=Count(2),
        rank=Count(1),
        params=ALONE,
        key=K,
    ),
    "reparam.low_rank_residual": call(
        lambda rank, params: reparam.low_rank_residual(rank=rank)(params), rank=Count(1), params=ALONE
    ),
    "reparam.export": call(lambda params: reparam.export(PDP, PDP.init(params, key=KEY), count=3), params=ALONE),
    "reparam.groups": on_host(lambda params: reparam.groups(PDP.init(params, key=KEY)), params=ALONE),
    "reparam.kaiming_normal": call(
        lambda params, key, density: reparam.kaiming_normal(params, key=key, density=density),
        params=ALONE,
        key=K,
        density=D,
    ),
    "reparam.signed_constant": call(
        lambda params, key, scale, density: reparam.signed_constant(params, key=key, scale=scale, density=density),
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
    "reparam.next_round": call(
        lambda initial, temperature: reparam.next_round(
            latent_of(reparam.continuous_sparsification(stop=10)), initial=initial, temperature=temperature
        ),
        initial=Number(0.1),
        temperature=Positive(200.0),
    ),
    "reparam.recycle": on_host(
        lambda fraction, mask: reparam.recycle(latent_of(PDP), fraction, mask=mask),
        fraction=Fraction(0.1),
        mask=MaskTree(HALF, optional=True),
    ),
    "reparam.rerandomise": call(
        lambda fraction, mask, key: reparam.rerandomise(latent_of(PDP), key=key, mask=mask, fraction=fraction),
        fraction=Fraction(0.3),
        mask=M,
        key=K,
    ),
}
