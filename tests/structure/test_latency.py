"""Estimated times of programs without some channels: exact for times that are known, measured ones in a file."""

import itertools
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import structure
from jaxticket.errors import InputError
from jaxticket.structure import _latency
from tests.structure.networks.attention import separate_projections
from tests.structure.networks.grouped import GROUPED, depthwise_multiplier, inverted_residual
from tests.structure.networks.products import experts_of_sorted_rows, vmapped_convolutions
from tests.structure.test_channels import GROUPS, MAGNITUDE
from tests.structure.test_removal import X, mlp, mlp_params

PARAMS = mlp_params()
SAMPLE = ("grouped_convolution_3", "depthwise_multiplier", "separate_projections")  # the others are in `make slow`


def tiers(networks):
    return [n if n.name in SAMPLE else pytest.param(n, marks=pytest.mark.slow) for n in networks]


def products(jaxpr):
    """Return the multiply-adds of a jaxpr, and the entries of what its other equations make."""
    total = other = 0
    for eqn in jaxpr.eqns:
        bodies = [x.jaxpr for x in eqn.params.values() if hasattr(x, "jaxpr")]
        size = sum(var.aval.size for var in eqn.outvars)
        if eqn.primitive.name == "dot_general":
            (summed, _), _ = eqn.params["dimension_numbers"]
            total += size * int(np.prod([eqn.invars[0].aval.shape[a] for a in summed]))
        elif eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval.shape
            total += size * int(np.prod([kernel[a] for a in eqn.params["dimension_numbers"].rhs_spec[1:]]))
        elif not bodies:
            other += size
        for body in bodies:
            more = products(body)
            total, other = total + more[0], other + more[1]
    return total, other


def count_macs(function, *arguments):
    """Return a time that is known: a launch, and a microsecond for each multiply-add."""
    return 1e-3 + 1e-6 * products(jax.make_jaxpr(function)(*arguments).jaxpr)[0]


def uniform(groups, fraction):
    return {g.name: np.arange(g.width) < max(1, round(fraction * g.width)) for g in groups}


@pytest.mark.parametrize("seed", range(3))
def test_times_by_multiply_adds_are_multiply_adds(seed):
    cost = structure.latency(mlp, PARAMS, GROUPS, X, timer=count_macs, fractions=(0.5, 1.0))
    rng = np.random.default_rng(seed)
    kept = {
        g.name: rng.permutation(g.width) < rng.integers(g.width // 2, g.width + 1) for g in GROUPS
    }  # between the points of the table, where products are bilinear
    np.testing.assert_allclose(cost(kept), 1e-3 + 1e-6 * GROUPS.macs(kept), rtol=1e-9)
    assert cost({}) == pytest.approx(1e-3 + 1e-6 * GROUPS.macs())


@pytest.mark.parametrize(
    "network",
    tiers([*GROUPED, depthwise_multiplier, inverted_residual, separate_projections, vmapped_convolutions]),
    ids=lambda network: getattr(network, "name", None),
)
def test_layers_of_every_kind_run_at_other_widths(network):
    """Each layer of the table does the work of its part of the smaller network."""
    groups = structure.trace(network.apply, network.variables, *network.inputs)
    cost = structure.latency(network.apply, network.variables, groups, *network.inputs, timer=count_macs)
    for fraction in (0.5, 1.0):
        kept = uniform(groups, fraction)
        np.testing.assert_allclose(cost(kept), 1e-3 + 1e-6 * groups.macs(kept), rtol=0.2)


def test_products_with_experts_are_timed():
    v, (x,) = experts_of_sorted_rows.variables, experts_of_sorted_rows.inputs
    groups = structure.trace(experts_of_sorted_rows.apply, v, x)
    count_entries = lambda f, *arrays: 1.0 + sum(x.size for x in jax.tree.leaves((arrays, jax.eval_shape(f, *arrays))))
    cost = structure.latency(experts_of_sorted_rows.apply, v, groups, x, timer=count_entries, fractions=(0.5, 1.0))
    assert cost({}) == pytest.approx(count_entries(experts_of_sorted_rows.apply, v, x), rel=0.05)
    assert cost({"up:2": np.arange(6) < 3}) < cost({})


def test_a_program_slower_than_its_layers_is_met_at_the_fractions():
    def count(function, *arguments):
        total, other = products(jax.make_jaxpr(function)(*arguments).jaxpr)
        return 1e-3 + 1e-6 * (total + 10 * other)

    cost = structure.latency(mlp, PARAMS, GROUPS, X, timer=count)
    for fraction in (0.25, 0.5, 1.0):
        kept = uniform(GROUPS, fraction)
        run = structure.replay(mlp, kept, GROUPS)
        expected = count(run, structure.shrink(PARAMS, kept, GROUPS), X)
        np.testing.assert_allclose(cost(kept), expected, rtol=0.03)


def test_fewer_channels_never_cost_more_whatever_is_measured():
    noise = np.random.default_rng(0)
    cost = structure.latency(mlp, PARAMS, GROUPS, X, timer=lambda *_: noise.uniform(1.0, 2.0))
    first, second = (g.name for g in GROUPS)
    for a, b in itertools.product(range(1, 9), range(1, 7)):
        here = {first: np.arange(8) < a, second: np.arange(6) < b}
        for wider in ({**here, first: np.arange(8) <= a}, {**here, second: np.arange(6) <= b}):
            assert cost(here) <= cost(wider)
    kept = structure.choose(structure.pool(MAGNITUDE, GROUPS), GROUPS, structure.Budget(0.95, cost))
    assert cost(kept) <= 0.95 * cost({})


def test_what_a_file_holds_is_not_measured_again(tmp_path):
    path, calls = tmp_path / "times.json", []

    def timer(function, *arguments):
        calls.append(function)
        return count_macs(function, *arguments)

    def run(**options):
        calls.clear()
        options = {"fractions": (0.5, 1.0), **options}
        return structure.latency(mlp, PARAMS, GROUPS, options.pop("x", X), timer=timer, cache=path, **options)({})

    first = run()
    assert len(calls) == 2 + 1 + (2 + 4 + 2)  # the program, a launch, and layers with frozen inputs or outputs
    assert run() == first
    assert not calls
    run(x=X[:3])  # another batch
    assert len(calls) == 2 + 8
    data = json.loads(path.read_text())
    (device,) = data
    path.write_text(json.dumps({f"other {device}": data[device]}))
    run()
    assert len(calls) == 11
    assert len(json.loads(path.read_text())) == 2  # what another device wrote stays


def test_programs_of_the_same_shapes_are_not_mixed_up(tmp_path):
    """The same equations at another precision, or another number of turns, take another time."""
    measured = []

    def timer(function, *arguments):
        measured.append(function)
        return 1.0 + len(measured)

    def with_rule():
        @jax.custom_vjp
        def double(x):
            return 2 * x

        double.defvjp(lambda x: (2 * x, None), lambda _, dy: (2 * dy,))
        return double

    def calls(precision=None, turns=2, double=lambda x: x):
        def apply(params, x):
            hidden = double(jnp.matmul(x, params["a"], precision=precision))
            hidden = jax.lax.while_loop(lambda c: c[0] < turns, lambda c: (c[0] + 1, 2 * c[1]), (0, hidden))[1]
            return jnp.matmul(hidden, params["b"], precision=precision)

        params, x, before = {"a": jnp.ones((2, 4)), "b": jnp.ones((4, 3))}, jnp.ones((5, 2)), len(measured)
        groups = structure.trace(apply, params, x)
        cache = tmp_path / "times.json"
        structure.latency(apply, params, groups, x, timer=timer, cache=cache, fractions=(0.5, 1.0))
        return len(measured) - before

    layers = 4  # two, at both fractions
    assert calls() == 2 + 1 + layers
    assert calls(jax.lax.Precision.HIGHEST) == 2 + layers
    assert calls(turns=200) == 2
    assert calls(double=with_rule()) == 2
    assert calls(double=with_rule()) == calls() == 0, "the same program at another address"


def test_times_are_those_of_the_device_of_new_arrays(tmp_path, monkeypatch):
    other = types.SimpleNamespace(platform="gpu", device_kind="another kind")
    monkeypatch.setattr(jax, "devices", lambda *_: [other])
    structure.latency(mlp, PARAMS, GROUPS, X, timer=count_macs, cache=tmp_path / "times.json")
    (device,) = json.loads((tmp_path / "times.json").read_text())
    assert device.startswith("cpu")


def test_no_time_is_that_of_a_transfer(monkeypatch):
    timed = []
    compiled = types.SimpleNamespace(compile=lambda: lambda *arguments: timed.append(arguments))
    monkeypatch.setattr(jax, "jit", lambda function: types.SimpleNamespace(lower=lambda *_: compiled))
    _latency.seconds(lambda params, x: x, {"a": np.ones(3)}, np.ones(2))
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(timed))


@pytest.mark.parametrize(
    "text",
    ["", "[1]", '{"a": 1}', '{"a": {"b": ["c"]}}', '{"a": {"b": "12"}}', '{"a": {"b": [-1.0]}}', '{"a": {"b": [NaN]}}'],
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "times.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"cache: .*times.json holds no times of structure.latency"):
        structure.latency(mlp, PARAMS, GROUPS, X, timer=count_macs, cache=path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"fractions": ()}, "fractions is"),
        ({"fractions": (0.5, 0.25, 1.0)}, "must increase"),
        ({"fractions": (0.0, 1.0)}, "must increase"),
        ({"fractions": (0.5,)}, "to 1"),
        ({"timer": lambda *_: float("nan")}, "timer: program"),
        ({"timer": lambda *_: 0.0}, "must be positive"),
        ({"prefer": "both"}, "prefer is 'both'"),
        ({"cache": "absent/times.json"}, "cache: absent/times.json lies in no folder"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises(InputError, match=match):
        structure.latency(mlp, PARAMS, GROUPS, X, **{"timer": count_macs, **options})


def test_shapes_are_refused():
    shapes = lambda tree: jax.eval_shape(lambda: tree)
    for name, params, x in (("inputs", PARAMS, shapes(X)), ("variables", shapes(PARAMS), X)):
        with pytest.raises(InputError, match=f"{name}: a time takes arrays"):
            structure.latency(mlp, params, GROUPS, x)


def test_groups_of_another_program_are_refused():
    other = structure.trace(lambda p, x: jnp.cumsum(mlp(p, x), 0) @ jnp.ones((3, 3)), PARAMS, X)
    with pytest.raises(InputError, match="groups are not those of this program"):
        structure.latency(lambda p, x: jnp.cumsum(x @ p["a"]["kernel"], -1), PARAMS, other, X, timer=count_macs)


@pytest.mark.slow
def test_the_estimate_is_near_what_is_measured():
    params, x = mlp_params((512, 1024, 1024, 256)), jnp.ones((256, 512))
    groups = structure.trace(mlp, params, x)
    cost = structure.latency(mlp, params, groups, x, fractions=(0.25, 0.5, 1.0))
    kept = {"a/kernel:1": np.arange(1024) < 512, "b/kernel:1": np.arange(1024) < 700}
    assert 0.3 < cost(kept) / cost({}) < 0.85  # 0.49 of the multiply-adds
    measured = structure.latency(  # the time of the smaller network itself
        structure.replay(mlp, kept, groups),
        structure.shrink(params, kept, groups),
        structure.trace(structure.replay(mlp, kept, groups), structure.shrink(params, kept, groups), x),
        x,
        fractions=(1.0,),
    )({})
    assert 0.5 < cost(kept) / measured < 2.0
