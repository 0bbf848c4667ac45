"""The library's side of traces of scores and allocations."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxticket as jt
from jaxticket import allocate, filters, scopes, scores, structure, units
from jaxticket.methods.channels import structure_lth as coarse
from jaxticket.methods.finetune import sparsegpt as one_shot
from tests.reference.library.classifier import BATCHES, KERNELS, PARAMS, apply, count, criterion
from tests.reference.network import SHAPES, full, shares
from tests.reference.published import erk as allocated
from tests.reference.published import fpgm as similar
from tests.reference.published import group_magnitude as coupled
from tests.reference.published import hrank as maps
from tests.reference.published import structure_lth as planted

INPUTS = [x for x, _ in BATCHES]
LAYOUT = ("NHWC", "HWIO", "NHWC")


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


def wanda(density, group=None):
    scored = scores.wanda(apply, INPUTS)(PARAMS)
    scored = {name: scored[name] for name in SHAPES}
    mask = jt.select(scored, density, scope=scopes.slices() if group is None else scopes.groups(group))
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


def hrank(density):
    kernel, biases, batches = (jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), part) for part in maps.problem())

    def apply(params, x):
        convolved = jax.lax.conv_general_dilated(x, params["kernel"], (1, 1), "SAME", dimension_numbers=LAYOUT)
        return jax.nn.relu(convolved + biases[None, None, None])

    scored = scores.hrank(apply, batches)({"kernel": kernel})
    mask = {"kernel": jt.select(scored, density, unit=units.axis(-1))["kernel"].ravel()}
    return [{"mask": mask, "living": count(mask), "ranks": {"kernel": scored["kernel"].ravel()}}]


def taylor(density):
    unit = units.axis(-1)
    loss = lambda params, batch: criterion(apply(params, batch[0]), batch)
    scored = scores.taylor(loss, BATCHES, unit=unit)(PARAMS)
    scored = {name: scored[name] for name in SHAPES}
    mask = {name: m.ravel() for name, m in jt.select(scored, density, unit=unit, scope=scopes.tree()).items()}
    return [{"mask": mask, "living": count(mask), "scores": shares({k: s[0] for k, s in to_numpy(scored).items()})}]


def group_magnitude(ratio):
    kernels, scales = coupled.weights()
    params = {
        name: {"kernel": jnp.asarray(k.T if k.ndim == 2 else k.transpose(2, 3, 1, 0))} for name, k in kernels.items()
    }
    for name, scale in scales.items():
        params[name] |= {"scale": jnp.asarray(scale), "bias": jnp.ones(scale.shape)}

    def layer(params, x):
        x = jax.lax.conv_general_dilated(x, params["kernel"], (1, 1), "SAME", dimension_numbers=LAYOUT)
        return x * params["scale"][None, None, None] + params["bias"][None, None, None]

    def apply(params, x):
        x = layer(params["stem"], x)
        x = x + layer(params["narrow"], jax.nn.relu(layer(params["widen"], x)))
        return jnp.mean(x, (1, 2)) @ params["head"]["kernel"]

    groups = structure.trace(apply, params, jnp.ones((1, 5, 5, 3)))
    names = {group.name: group.name.split("/")[0] for group in groups}
    scored = structure.group_magnitude(params, groups)
    mask = {names[name]: m for name, m in structure.choose(scored, groups, 1 - ratio).items()}
    return [{"mask": mask, "living": count(mask), "scores": {names[name]: s for name, s in scored.items()}}]


def structure_lth(rates, ratios):
    given = {name: jnp.asarray(m.transpose(2, 3, 1, 0)) for name, m in planted.masks().items()}
    refilled = [coarse.refill(given, rate=rate) for rate in rates]
    regrouped = [coarse.regroup(given, parts=2, ratio=ratio) for ratio in ratios]
    seen = [{name: m.ravel() for name, m in mask.items()} for mask in refilled]
    seen += [{name: m.transpose(3, 2, 0, 1).reshape(m.shape[-1], -1) for name, m in mask.items()} for mask in regrouped]
    return [{"mask": mask, "living": count(mask)} for mask in seen]


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
    "group_magnitude": group_magnitude,
    "hrank": hrank,
    "structure_lth": structure_lth,
    "taylor": taylor,
}
