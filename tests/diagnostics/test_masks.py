"""Layer collapse, and the overlap of replicates against chance."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import masks
from jaxticket.diagnostics import layer_collapse, overlaps
from jaxticket.errors import InputError, StructureError


def test_collapse_names_the_leaf_and_its_first_level():
    full = {"a": {"kernel": jnp.ones((2, 3), bool)}, "b": jnp.ones((1, 4), bool), "c": None}
    no_b = full | {"b": jnp.zeros((1, 4), bool)}
    nothing = masks.empty_like(full)
    assert layer_collapse([full]) == {}
    assert layer_collapse([full, no_b, nothing]) == {"b": 1, "a/kernel": 2}
    assert layer_collapse([nothing, full]) == {"a/kernel": 0, "b": 0}  # the first time, also if it grows again
    assert layer_collapse([]) == {}


def test_a_single_weight_is_no_collapse_and_an_empty_leaf_neither():
    assert layer_collapse([{"w": jnp.zeros((5, 5), bool).at[4, 4].set(True), "none": jnp.ones((0, 3), bool)}]) == {}


def test_overlaps_by_hand():
    params = {"a": jnp.ones((2, 4)), "b": jnp.ones(4), "c": jnp.ones(9)}
    masks_ = [
        {"a": jnp.array([[True], [False]]), "b": jnp.arange(4) < 1, "c": None},  # 4 of 8, 1 of 4
        {"a": jnp.arange(8).reshape(2, 4) < 2, "b": jnp.arange(4) < 3, "c": None},  # 2 of 8, 3 of 4
        masks.empty_like({"a": params["a"], "b": params["b"], "c": None}),
    ]
    found = overlaps(params, masks_)
    assert [row.pair for row in found] == [(0, 1), (0, 2), (1, 2)]
    assert found[0].iou == pytest.approx(3 / 7)
    by_chance = 4 * 2 / 8 + 1 * 3 / 4
    assert found[0].chance == pytest.approx(by_chance / (10 - by_chance))
    assert [(row.iou, row.chance) for row in found[1:]] == [(0, 0), (0, 0)]
    assert overlaps(params, [masks_[2]] * 2)[0][1:] == (1, 1)  # nothing, twice


def test_random_masks_overlap_by_chance_and_equal_ones_entirely():
    sizes, kept = {"a": 8000, "b": 1600}, {"a": 1600, "b": 80}
    params = {name: jnp.zeros(n) for name, n in sizes.items()}
    rng = np.random.default_rng(0)
    masks_ = [{name: jnp.asarray(rng.permutation(n) < kept[name]) for name, n in sizes.items()} for _ in range(6)]
    rows = overlaps(params, masks_)
    assert len(rows) == 15
    both = sum(kept[name] ** 2 / n for name, n in sizes.items())
    variance = sum(k * k / n * (1 - k / n) * (n - k) / (n - 1) for n, k in zip(sizes.values(), kept.values()))
    for row in rows:
        assert row.chance == pytest.approx(both / (2 * 1680 - both))
        common = row.iou * 2 * 1680 / (1 + row.iou)
        assert abs(common - both) < 4 * np.sqrt(variance)
    assert overlaps(params, [masks_[0], masks_[0]])[0].iou == 1


def test_overlap_errors():
    with pytest.raises(InputError, match="masks holds 1"):
        overlaps(jnp.ones(2), [jnp.ones(2, bool)])
    with pytest.raises(StructureError):
        overlaps({"a": jnp.ones(2)}, [{"a": jnp.ones(2, bool)}, {"a": None}])
