"""The library's side of traces of scores and allocations."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxticket as jt
from jaxticket import allocate, filters, scopes, scores, units
from jaxticket.methods.finetune import sparsegpt as one_shot
from tests.reference.library.classifier import BATCHES, KERNELS, PARAMS, apply, count, criterion
from tests.reference.network import SHAPES, full, shares
from tests.reference.published import erk as allocated
from tests.reference.published import fpgm as similar

INPUTS = [x for x, _ in BATCHES]


def shared(rule, densities, **options):
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in allocated.SHAPES.items()}
    found = (rule(params, density, **options) for density in densities)
    sizes = {name: p.size for name, p in params.items()}
    return [{"living": {name: round(d * sizes[name]) for name, d in leaves.items()}} for leaves in found]


def lamp(rounds, amount):
    mask, seen, score = {name: jnp.asarray(m) for name, m in full().items()}, [], jax.jit(scores.lamp(scores.magnitude))
    for _ in range(rounds):
        size = sum(m.size for m in mask.values())
        density = round((1 - amount) * sum(count(mask).values())) / size
        scored = score(KERNELS, mask=mask)
        mask = jt.select(scored, density, scope=scopes.tree(), mask=mask)
        seen.append({"mask": mask, "living": count(mask), "scores": shares(to_numpy(scored))})
    return seen


def wanda(density):
    scored = scores.wanda(apply, INPUTS)(PARAMS)
    scored = {name: scored[name] for name in SHAPES}
    mask = jt.select(scored, density, scope=scopes.slices(-1))
    return [{"mask": mask, "living": count(mask), "scores": shares(to_numpy(scored))}]


def sparsegpt(**settings):
    params, mask = one_shot.sparsegpt(PARAMS, apply, INPUTS, where=filters.match("^[12]/kernel"), **settings)
    return [{"mask": mask, "living": count(mask), "weights": params}]


def fpgm(density, norm_density):
    kernels = {name: jnp.asarray(k, jnp.float32) for name, k in similar.kernels().items()}
    scored = jax.jit(scores.fpgm(norm_density=norm_density))(kernels)
    mask = jt.select(scored, density, unit=units.axis(-1))
    sums = {name: jnp.where(s > 0, s, -1).ravel() for name, s in scored.items()}
    return [{"mask": {name: m.ravel() for name, m in mask.items()}, "living": count(mask), "sums": sums}]


def taylor(density):
    unit = units.axis(-1)
    loss = lambda params, batch: criterion(apply(params, batch[0]), batch)
    scored = scores.taylor(loss, BATCHES, unit=unit)(PARAMS)
    scored = {name: scored[name] for name in SHAPES}
    mask = {name: m.ravel() for name, m in jt.select(scored, density, unit=unit, scope=scopes.tree()).items()}
    return [{"mask": mask, "living": count(mask), "scores": shares({k: s[0] for k, s in to_numpy(scored).items()})}]


def to_numpy(tree):
    return {name: np.asarray(leaf, float) for name, leaf in tree.items()}


LIBRARY = {
    "erk": lambda densities: shared(allocate.erk, densities),
    "erdos_renyi": lambda densities: shared(allocate.erdos_renyi, densities),
    "uniform_plus": lambda densities, **layers: shared(allocate.uniform_plus, densities, **layers),
    "lamp": lamp,
    "wanda": wanda,
    "sparsegpt": sparsegpt,
    "fpgm": fpgm,
    "taylor": taylor,
}
