"""What the registry says of each method agrees with what the method does on a small network.

Plans are driven by hand, with parameters and gradients that do not depend on the mask: a field is then about the mask
alone. A method's story is its mask at every step.
"""

import difflib
import functools
import inspect
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from docs import methods_table
from jaxticket import allocate, registry, reparam, schedules, scopes, scores, transforms, units
from jaxticket.errors import InputError
from jaxticket.registry import METHODS, Setting

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS, DENSITY = 20, 0.25
EACH = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
KEY = jax.random.key(7)


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


class Batch(NamedTuple):
    x: jax.Array
    y: jax.Array


def batch(seed):
    x, y = jax.random.split(jax.random.key(seed))
    return Batch(jax.random.normal(x, (20, 12)), jax.random.randint(y, (20,), 0, 8))


def apply(params, x):
    return jax.nn.relu(x @ params["a"]["kernel"]) @ params["b"]["kernel"]


def criterion(logits, batch):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), batch.y[:, None], 1))


def setting(batches, *, steps=STEPS, apply=apply, criterion=criterion):
    return Setting(DENSITY, steps, apply, criterion, lambda batch: batch.x, batches)


def normalised(params, x, *, train):
    """With a batch norm, whose running statistics are those of the start."""
    x = x @ params["a"]["kernel"]
    mean, std = (jnp.mean(x, 0, keepdims=True), jnp.std(x, 0, keepdims=True)) if train else (0.0, 1.0)
    return jax.nn.relu((x - mean) / std) @ params["b"]["kernel"]


A = setting([batch(0)])


def params_at(step, seed=0, shrunk=1.0):
    """Weights that come and go in size, each at its own time; those of one layer may be smaller."""
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=shape) + np.sin(0.3 * step + rng.normal(size=shape) * 3) for shape in [(12, 12), (12, 8)])
    return {"a": {"kernel": jnp.float32(shrunk * a)}, "b": {"kernel": jnp.float32(b)}}


@functools.cache
def trajectory(seed=0, shrunk=1.0):
    return [params_at(step, seed, shrunk) for step in range(STEPS)]


@functools.cache
def gradients(batch_seed, seed=0, shrunk=1.0):
    """Large beside the weights, so that a small part of them shows."""
    of = jax.jit(jax.grad(lambda params, batch: 100 * A.loss(params, batch)))
    return [of(params, batch(batch_seed)) for params in trajectory(seed, shrunk)]


@functools.cache
def beginning(method, loss=None):
    """(params, key, batches) -> first mask and state, compiled once for many of them."""
    of = {} if loss is None else loss()
    return jax.jit(lambda params, key, batches: method.make(setting(batches, **of)).refresh.init(params, None, key=key))


def story(method, *, batch_seed=0, seed=0, shrunk=1.0, key=KEY):
    """The mask at every step, as arrays by layer."""
    made = method.make(setting([batch(batch_seed)]))
    params, grads = trajectory(seed, shrunk), gradients(batch_seed, seed, shrunk)
    key = key if "key" in method.needs else None
    if isinstance(made, reparam.Reparam):
        latents = [made.init(p, key=key) for p in params]
        if isinstance(latents[0], reparam.Latent):
            latents = learning(method.name)(latents[0], batch(batch_seed))
        masks = [made.mask(latent, count=jnp.int32(count)) for count, latent in enumerate(latents)]
    elif made.when is None:
        mask, _ = beginning(method)(params[0], key, [batch(batch_seed)])
        masks = [mask] * STEPS
    else:
        masks = list(evolution(made, params, grads, key))
    return {layer: np.stack([mask[layer]["kernel"] for mask in masks]) for layer in "ab"}


@functools.cache
def learning(name):
    """(latent, batch) -> the latents of a training, by their own gradients: masks are what they learn."""
    made = METHODS[name].make(A)
    tx = made.wrap(optax.sgd(1.0))

    @jax.jit
    def step(latent, state, count, batch):
        grads = jax.grad(lambda latent: A.loss(made.realise(latent, count=count), batch))(latent)
        updates, state = tx.update(grads, state, latent)
        return optax.apply_updates(latent, updates), state

    def latents(latent, batch):
        state, found = tx.init(latent), [latent]
        for count in range(STEPS - 1):
            latent, state = step(latent, state, jnp.int32(count), batch)
            found.append(latent)
        return found

    return latents


def evolution(plan, params, grads, key):
    mask, state = plan.refresh.init(params[0], None, key=key)
    due = np.asarray(jax.vmap(plan.when)(jnp.arange(STEPS)))
    for count in range(STEPS):
        if plan.refresh.observe:
            state = plan.refresh.observe(state, params=params[count], grads=grads[count])
        if due[count]:
            signals = {"params": jt.apply_mask(params[count], mask), "grads": grads[count], "aux": None}
            step_key = None if key is None else jax.random.fold_in(key, count)
            mask, state = plan.refresh.update(mask, state, count=jnp.int32(count), key=step_key, **signals)
        yield mask


@functools.cache
def told(name):
    return story(METHODS[name])


def same(one, other):
    return all(np.array_equal(one[layer], other[layer]) for layer in one)


def last(story):
    return {layer: masks[-1] for layer, masks in story.items()}


def counts(story):
    return {layer: int(mask.sum()) for layer, mask in last(story).items()}


@EACH
def test_every_field_is_filled(method):
    assert METHODS[method.name] is method
    assert method.paper.split()[-1]
    assert any(word.isdigit() and len(word) == 4 for word in method.paper.replace(",", " ").split())
    assert method.needs <= {"gradients", "hessian", "key"}
    assert method.evidence
    assert [path for path in method.evidence if not (ROOT / path).exists()] == []


@EACH
def test_the_last_mask_has_the_density(method):
    kept = sum(counts(told(method.name)).values())
    assert kept == round(DENSITY * 240) if method.unit == "element" else abs(kept - DENSITY * 240) < 16


@EACH
def test_when(method):
    changes = any((masks != masks[0]).any() for masks in told(method.name).values())
    assert changes == (method.when == "during")


@EACH
def test_regrows(method):
    born = any((masks[1:] & ~masks[:-1]).any() for masks in told(method.name).values())
    assert born == method.regrows
    plan = method.make(A)
    if not isinstance(plan, reparam.Reparam):  # `sparsify` then looks for no newborn weights
        assert plan.refresh.narrows == (not method.regrows)


@EACH
def test_data(method):
    assert same(told(method.name), story(method, batch_seed=1)) == (method.data == "none")


@pytest.mark.parametrize("method", [m for m in METHODS.values() if "key" in m.needs], ids=lambda method: method.name)
def test_key(method):
    """Those that need none get none in all other tests."""
    with pytest.raises(InputError, match="needs a key"):
        story(method, key=None)
    assert not same(told(method.name), story(method, key=jax.random.key(8)))


@EACH
def test_scope(method):
    """Leaves of fixed densities keep them whatever the weights, and so do groups; a tree's move with the weights."""
    fixed = counts(told(method.name)) == counts(story(method, seed=3, shrunk=1e-3))
    assert fixed == (method.scope != "tree")
    in_groups = (last(told(method.name))["a"].reshape(3, 4, 12).sum(1) == 1).all()
    assert in_groups == (method.scope == "groups")


@EACH
def test_unit(method):
    """Blocks are kept or left whole; of single weights none of the larger units is."""
    for mask in last(told(method.name)).values():
        whole = lambda unit: np.array_equal(mask, unit.expand(unit.pool_mask(mask), mask))
        assert whole(units.block(4, 4)) == (method.unit == "block")
        assert not whole(units.axis(0))
        assert not whole(units.axis(-1))


@EACH
def test_gradients_are_where_data_comes_from(method):
    assert ("gradients" in method.needs) == (method.data == "batch")


def linear():
    """A loss that is linear in the weights, by slopes in the batch."""
    return {
        "apply": lambda params, x: jnp.concatenate([p.ravel() for p in jax.tree.leaves(params)]),
        "criterion": lambda outputs, batch: outputs @ batch.y,
    }


# BiP begins from trained weights.
UNREGISTERED = {"bip"}
PROBES = [m for m in METHODS.values() if m.when == "before" and m.data == "batch"]


@pytest.mark.parametrize("method", PROBES, ids=lambda method: method.name)
def test_hessian(method):
    """Of a linear loss, probes see the gradient, or a Hessian of zeros."""
    slopes = [jnp.asarray(np.random.default_rng(seed).normal(size=240), jnp.float32) for seed in (5, 6)]
    masks = [beginning(method, linear)(trajectory()[0], None, [Batch(batch(0).x, y)])[0] for y in slopes]
    differ = not all(map(np.array_equal, *map(jax.tree.leaves, masks)))
    assert differ == ("hessian" not in method.needs)


@EACH
def test_the_code_shown_makes_the_method(method):
    """For a training of 1,000 steps: the same first mask, and refreshes at the same steps."""
    names = {"density": DENSITY, "batches": A.batches, "loss": A.loss, "apply": apply, "x": batch(0).x}
    tempered = {"loss_of_logits_over_200": lambda params, b: criterion(apply(params, b.x) / 200, b)}
    modules = {
        "allocate": allocate,
        "scores": scores,
        "scopes": scopes,
        "schedules": schedules,
        "reparam": reparam,
        "units": units,
    }
    shown = eval(method.arguments, {**vars(transforms), **names, **tempered, **modules})
    made = method.make(A._replace(steps=1000))
    params, key = trajectory()[0], KEY if "key" in method.needs else None
    if isinstance(made, reparam.Reparam):
        latent = made.init(params, key=key)
        masks = [one.mask(one.init(params, key=key), count=jnp.int32(0)) for one in (shown, made)]
        grads = [jax.grad(lambda p: A.loss(one.realise(p, count=0), batch(0)))(latent) for one in (shown, made)]
        assert all(map(np.array_equal, *map(jax.tree.leaves, grads)))
    elif made.when is None:
        masks = [shown.refresh.init(params, None, key=key)[0], beginning(method)(params, key, A.batches)[0]]
    else:
        masks = [one.refresh.init(params, None, key=key)[0] for one in (shown, made)]
        due = [jax.vmap(one.when)(jnp.arange(1000)) for one in (shown, made)]
        np.testing.assert_array_equal(*due)
    assert all(map(np.array_equal, *map(jax.tree.leaves, masks)))


def test_every_public_method_is_registered():
    """Aliases that return a plan, and reparametrisations, if a density says how much they keep."""
    makers = {
        name
        for module, result in ((transforms, transforms.Plan), (reparam, reparam.Reparam))
        for name, member in vars(module).items()
        if callable(member)
        and inspect.signature(member).return_annotation is result
        and "density" in inspect.signature(member).parameters
    }
    code = " ".join(method.arguments for method in METHODS.values())
    assert {"rigl", "straight_through"} <= makers
    assert {name for name in makers if f"{name}(" not in code} == UNREGISTERED


@pytest.mark.parametrize("name", ["grasp", "force", "iterative_snip", "snip"])
def test_batch_norms_are_scored_in_training_mode_where_the_authors_do(name):
    """SNIP alone scores in evaluation mode, as everything does without `apply_train`."""
    modes = {mode: functools.partial(normalised, train=mode == "train") for mode in ("train", "eval")}
    both = setting([batch(0)], apply=modes["eval"])._replace(apply_train=modes["train"])
    made = {"both": both, **{mode: setting([batch(0)], apply=apply) for mode, apply in modes.items()}}
    masks = {key: jax.jit(lambda s=s: registry.get(name).make(s).refresh.init(params_at(0), None, key=KEY)[0])()
             for key, s in made.items()}  # fmt: skip
    same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(masks[a]), jax.tree.leaves(masks[b])))
    assert not same("train", "eval")
    assert same("both", "eval" if name == "snip" else "train")


def test_an_unknown_name_is_answered_with_its_neighbours():
    with pytest.raises(InputError, match="'rigle' is not in the registry; perhaps one of these was meant: rigl"):
        registry.get("rigle")
    with pytest.raises(InputError, match="random, random_erk, magnitude"):
        registry.get("zzz")


def test_the_page_of_methods_is_what_the_registry_says():
    """If not: python docs/methods_table.py."""
    difference = difflib.unified_diff(methods_table.PAGE.read_text().splitlines(), methods_table.page().splitlines())
    assert "\n".join(difference) == ""
