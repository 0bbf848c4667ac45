"""Recycled and rerandomised weights: golden values, what must not change, when they are due."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxticket import reparam, schedules
from jaxticket.errors import InputError, StructureError
from jaxticket.reparam import Latent, recycle, rerandomise
from tests.tiers import sample

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "supermask.json").read_text())
KEY = jax.random.key(3)
POPUP = reparam.edge_popup(0.5)


@functools.cache
def make_latent():
    params = {"kernel": jnp.zeros((100, 100)), "bias": jnp.ones(100)}
    return POPUP.init(reparam.kaiming_normal(params, key=KEY), key=KEY)


@pytest.mark.parametrize("case", [c for c in GOLDEN if c["name"] == "recycle"], ids=lambda case: str(case["fraction"]))
def test_golden(case):
    """Sources aligned in the order of the scores: the lowest takes the lowest of the highest, not the highest."""
    latent = Latent({"w": jnp.asarray([case["weights"]])}, {"w": jnp.asarray([case["learned"]])})
    recycled = recycle(latent, case["fraction"])
    np.testing.assert_array_equal(recycled.weights["w"][0], case["recycled"])
    assert recycled.learned is latent.learned


def test_recycling_changes_pruned_weights_alone_and_makes_no_new_values():
    latent = make_latent()
    mask = POPUP.mask(latent, count=0)
    old = np.asarray(latent.weights["kernel"])
    for recycled in (jax.jit(lambda l: recycle(l, 0.2))(latent), recycle(latent, 0.2, mask=mask)):
        new = np.asarray(recycled.weights["kernel"])
        assert (new != old).sum() == 2000
        assert set(new.ravel().tolist()) < set(old.ravel().tolist())
        kept = np.asarray(mask["kernel"])
        np.testing.assert_array_equal(new[kept], old[kept])
        np.testing.assert_array_equal(POPUP.mask(recycled, count=0)["kernel"], kept)
        jax.tree.map(np.testing.assert_array_equal, POPUP.realise(recycled, count=0), POPUP.realise(latent, count=0))
        np.testing.assert_array_equal(recycled.weights["bias"], latent.weights["bias"])


@given(st.lists(st.integers(-4, 4), min_size=10, max_size=10), st.sampled_from([0.25, 0.5]))
def test_every_low_weight_takes_the_value_of_a_high_one(scores, fraction):
    """Also where scores tie, which a sort by numpy breaks alike: by the lower index."""
    latent = Latent({"w": jnp.arange(10.0)}, {"w": jnp.float32(scores)})
    order = sorted(range(10), key=lambda i: (-abs(scores[i]), i))
    count = int(10 * fraction)
    expected = np.arange(10.0)
    for low, high in zip(order[::-1][:count], order[:count][::-1], strict=True):
        expected[low] = high
    np.testing.assert_array_equal(recycle(latent, fraction).weights["w"], expected)


def test_kept_weights_stay_where_a_traced_mask_leaves_less_room():
    latent = make_latent()
    dense = reparam.edge_popup(0.9)

    @jax.jit
    def both(latent):
        mask = dense.mask(latent, count=0)
        return mask, recycle(latent, 0.2, mask=mask)

    mask, recycled = both(latent)
    changed = np.asarray(recycled.weights["kernel"] != latent.weights["kernel"])
    np.testing.assert_array_equal(changed, ~np.asarray(mask["kernel"]))


def test_recycling_is_due_now_and_then_for_all_replicates_at_once():
    due = schedules.every(3, start=3, stop=6)
    latents = jax.vmap(lambda key: POPUP.init(reparam.kaiming_normal({"kernel": jnp.zeros((4, 5))}, key=key), key=key))(
        jax.random.split(KEY, 2)
    )

    def step(latent, count):
        latent = jax.lax.cond(due(count), lambda l: recycle(l, 0.25), lambda l: l, latent)
        # Other scores, so that the next one has something to do.
        moved = jax.tree.map(lambda s: jnp.roll(s, 7), latent.learned)
        return latent._replace(learned=moved), latent.weights["kernel"]

    many = jax.vmap(lambda latent: jax.lax.scan(step, latent, jnp.arange(10)))
    assert " cond[" in str(jax.make_jaxpr(many)(latents))
    _, history = jax.jit(many)(latents)
    for replicate in np.asarray(history):
        changed = [t for t in range(1, 10) if (replicate[t] != replicate[t - 1]).any()]
        assert changed == [3, 6]


def test_the_part_that_changes_is_rounded_down():
    """As the authors' int(r · n): two of nine at 0.3."""
    latent = Latent({"w": jnp.arange(9.0)}, {"w": jnp.arange(9.0) + 1})
    np.testing.assert_array_equal(recycle(latent, 0.3).weights["w"], [7, 8, 2, 3, 4, 5, 6, 7, 8])


def test_rerandomised_weights_are_pruned_ones_drawn_as_the_first_were():
    latent = make_latent()
    mask = POPUP.mask(latent, count=0)
    draw = jax.jit(functools.partial(rerandomise, mask=mask))
    one, other = draw(latent, key=KEY), draw(latent, key=jax.random.key(4))
    kept = np.asarray(mask["kernel"])
    old, new = np.asarray(latent.weights["kernel"]), np.asarray(one.weights["kernel"])
    np.testing.assert_array_equal(new[kept], old[kept])
    changed = new != old
    assert changed.mean() == pytest.approx(0.1 * 0.5, abs=0.01)
    assert new[changed].std() == pytest.approx(0.02**0.5, rel=0.1)
    assert (np.asarray(other.weights["kernel"]) != new).any()
    np.testing.assert_array_equal(one.weights["bias"], latent.weights["bias"])
    assert jax.tree.all(jax.tree.map(np.array_equal, one.learned, latent.learned))
    signs = rerandomise(latent, key=KEY, mask=mask, fraction=1.0, redraw=reparam.signed_constant).weights["kernel"]
    np.testing.assert_allclose(np.abs(signs)[~kept], 0.02**0.5, rtol=1e-6)


@pytest.mark.parametrize(
    "kind", sample([AxisType.Auto, AxisType.Explicit], [AxisType.Explicit]), ids=lambda kind: kind.name
)
def test_latents_are_laid_out_like_the_weights_before_and_after(kind):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind,) * 2)
    layout = NamedSharding(mesh, P("x", "y"))
    with jax.set_mesh(mesh):
        params = {"kernel": jax.device_put(jnp.zeros((16, 8)), layout)}
        first = POPUP.init(reparam.kaiming_normal(params, key=KEY), key=KEY)
        mask = POPUP.mask(first, count=0)
        for latent in (first, recycle(first, 0.2, mask=mask), rerandomise(first, key=KEY, mask=mask)):
            assert all(leaf.sharding.is_equivalent_to(layout, 2) for leaf in jax.tree.leaves((latent, mask)))
            assert ((latent.weights["kernel"] != first.weights["kernel"]) & mask["kernel"]).sum() == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda l, m: recycle(l, 0.0), InputError, "fraction=0.0"),
        (lambda l, m: recycle(l, 0.6), InputError, "fraction=0.6"),
        (lambda l, m: recycle(l, 0.2, mask={"kernel": jnp.ones((100, 100), bool), "bias": None}), InputError, "only 0"),
        (lambda l, m: recycle(l.weights, 0.2), InputError, "latent is a dict"),
        (lambda l, m: recycle(l._replace(learned={}), 0.2), StructureError, "latent.learned"),
        (lambda l, m: rerandomise(l, key=KEY, mask=m, fraction=0.0), InputError, "fraction=0.0"),
        (lambda l, m: rerandomise(l, key=KEY, mask=m, fraction=1.5), InputError, "fraction=1.5"),
        (lambda l, m: rerandomise(l, key=KEY, mask={}), StructureError, "mask"),
    ],
)
def test_bad_input_is_named(call, error, message):
    latent = make_latent()
    with pytest.raises(error, match=message):
        call(latent, POPUP.mask(latent, count=0))
