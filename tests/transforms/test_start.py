"""First masks: in one round and in several, nested or revived, exact, and in one program."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import scopes, scores, units
from jaxticket.errors import InputError

RNG = np.random.default_rng(1)
KERNELS = [RNG.normal(size=shape) for shape in [(6, 10), (10, 10), (10, 4)]]
PARAMS = [{"kernel": jnp.asarray(k, jnp.float32), "bias": jnp.zeros((1, k.shape[1]))} for k in KERNELS]
INPUTS, TARGETS = RNG.normal(size=(16, 6)), RNG.normal(size=(16, 4))
SIZES = [k.size for k in KERNELS]
DENSITY = 0.1


def apply(params, x):
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    return x @ params[-1]["kernel"] + params[-1]["bias"]


def loss(params, batch):
    return jnp.mean(jnp.square(apply(params, batch[0]) - batch[1]))


SNIP = scores.snip(loss, [(jnp.asarray(INPUTS, jnp.float32), jnp.asarray(TARGETS, jnp.float32))])
SYNFLOW = scores.synflow(lambda p, x: x @ p[0]["kernel"] @ p[1]["kernel"] @ p[2]["kernel"], jnp.zeros((1, 6)))


def snip64(kernels):
    """|∂L/∂w| of the masked network."""
    seen = [INPUTS]
    for kernel in kernels[:-1]:
        seen.append(np.tanh(seen[-1] @ kernel))
    back = 2 * (seen[-1] @ kernels[-1] - TARGETS) / TARGETS.size
    gradients = [seen[-1].T @ back]
    for kernel, hidden, before in zip(kernels[:0:-1], seen[:0:-1], seen[-2::-1]):
        back = back @ kernel.T * (1 - hidden**2)
        gradients.insert(0, before.T @ back)
    return [abs(g) for g in gradients]


def synflow64(kernels):
    forward, backward = [np.ones((1, 6))], [np.ones((1, 4))]
    for kernel in kernels:
        forward.append(forward[-1] @ abs(kernel))
    for kernel in reversed(kernels):
        backward.append(backward[-1] @ abs(kernel).T)
    return [f.T * b * (k != 0) for f, b, k in zip(forward, backward[-2::-1], kernels)]


def top(flat, k):
    kept = np.zeros(flat.size, bool)
    kept[np.argsort(-flat, kind="stable")[:k]] = True
    return kept


def rounds64(gradient, rounds, *, revive, densities=None, parts=None):
    """Pruning in rounds as the papers state it, with sorts; over the tree, or leaf by leaf at `densities`."""
    masks, seen = [np.ones(k.shape, bool) for k in KERNELS], []
    for i in range(1, rounds + 1):
        found = [abs(k) * g for k, g in zip(KERNELS, gradient([k * m for k, m in zip(KERNELS, masks)]))]
        found = [f if revive else np.where(m, f, -1) for f, m in zip(found, masks)]
        if densities is None:
            kept = top(
                np.concatenate([f.ravel() for f in found]),
                round((parts[i - 1] if parts else DENSITY ** (i / rounds)) * sum(SIZES)),
            )
            split = np.split(kept, np.cumsum(SIZES)[:-1])
        else:
            split = [top(f.ravel(), round(d ** (i / rounds) * f.size)) for f, d in zip(found, densities)]
        masks = [part.reshape(k.shape) for part, k in zip(split, KERNELS)]
        seen.append(masks)
    return seen


def first_mask(score, **options):
    transform = jt.start(score, DENSITY, **options)
    mask = jax.jit(lambda params: transform.init(params, None, key=jax.random.key(0))[0])(PARAMS)
    assert all(layer["bias"] is None for layer in mask)
    return [np.asarray(layer["kernel"]) for layer in mask]


def nested(seen):
    return all((b <= a).all() for older, newer in itertools.pairwise(seen) for a, b in zip(older, newer))


@pytest.mark.parametrize(
    ("score", "gradient"), [(SNIP, snip64), (SYNFLOW, synflow64)], ids=["iterative SNIP", "SynFlow"]
)
def test_survivors_of_rounds(score, gradient):
    seen = rounds64(gradient, 5, revive=False)
    found = first_mask(score, scope=scopes.tree(), rounds=5)
    for a, b in zip(found, seen[-1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert sum(m.sum() for m in found) == round(DENSITY * sum(SIZES))
    assert nested(seen)


def test_force_as_a_static_plan():
    seen = rounds64(snip64, 5, revive=True)
    plan = jt.static(DENSITY, score=SNIP, scope=scopes.tree(), rounds=5, revive=True)
    params, state = jt.init(jt.sparsify(optax.sgd(0.1), plan), PARAMS)  # not compiled as a whole, as the others are
    for a, p, b in zip(jt.mask_of(state), params, seen[-1], strict=True):
        np.testing.assert_array_equal(a["kernel"], b)
        np.testing.assert_array_equal(p["kernel"] != 0, b)
    assert not nested(seen)  # pruned weights did return


def test_rounds_of_leaves_with_an_allocation():
    densities = [layer["kernel"] for layer in jt.allocate.erk(PARAMS, DENSITY)]
    expected = rounds64(snip64, 3, revive=False, densities=densities)[-1]
    found = first_mask(SNIP, allocate=jt.allocate.erk, rounds=3)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_force_in_one_round_is_snip():
    assert program(SNIP, rounds=1, revive=True) == program(SNIP, rounds=1)


def test_units_in_rounds_are_exact():
    found = first_mask(scores.magnitude, unit=units.axis(-1), scope=scopes.tree(), rounds=4)
    assert [m.shape for m in found] == [(1, 10), (1, 10), (1, 4)]
    assert sum(m.sum() for m in found) == round(DENSITY * 24)


def program(score, **options):
    transform = jt.start(score, DENSITY, scope=scopes.tree(), **options)
    return str(jax.make_jaxpr(lambda p: transform.init(p, None, key=None)[0])(PARAMS)).splitlines()


def test_linear_rounds_of_force():
    """1 − (i + 1)(1 − ρ) / T: .82, .64, .46, .28, .1 of all weights, and another mask than exponential rounds make."""
    exponential = first_mask(SNIP, scope=scopes.tree(), rounds=5, revive=True)
    linear = first_mask(SNIP, scope=scopes.tree(), rounds=5, revive=True, spacing="linear")
    parts = [1 - (i + 1) * (1 - DENSITY) / 5 for i in range(5)]
    seen = rounds64(snip64, 5, revive=True, parts=parts)
    for a, b in zip(linear, seen[-1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(linear, exponential, strict=True))
    with pytest.raises(InputError, match="spacing="):
        jt.start(scores.magnitude, 0.5, rounds=2, spacing="cubic")


@pytest.mark.parametrize("compiled", [True, False])
def test_each_round_reads_a_fresh_batch(compiled):
    """FORCE's loader is shuffled: round i reads its own batch, and starts again after the last."""
    rng = np.random.default_rng(2)
    batches = [(rng.normal(size=(16, 6)), rng.normal(size=(16, 4))) for _ in range(3)]
    rounds = iter(range(5))

    def gradient(kernels):
        global INPUTS, TARGETS
        kept = INPUTS, TARGETS
        INPUTS, TARGETS = batches[next(rounds) % 3]
        found = snip64(kernels)
        INPUTS, TARGETS = kept
        return found

    seen = rounds64(gradient, 5, revive=True)
    single = [jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch) for batch in batches]
    fresh = scores.snip(loss, single, each_round=1)
    transform = jt.start(fresh, DENSITY, scope=scopes.tree(), rounds=5, revive=True)
    make = lambda params: transform.init(params, None, key=None)[0]
    found = (jax.jit(make) if compiled else make)(PARAMS)
    for a, b in zip(found, seen[-1], strict=True):
        np.testing.assert_array_equal(a["kernel"], b)
    same = jt.start(scores.snip(loss, single), DENSITY, scope=scopes.tree(), rounds=5, revive=True)
    assert any((a["kernel"] != b["kernel"]).any() for a, b in zip(found, same.init(PARAMS, None, key=None)[0]))
    # Two of three in each round: 0, 1, then 2, 0, then 1, 2. Outside of rounds it is the first.
    two = scores.snip(loss, single, each_round=2)
    for round_, chosen in ((None, [0, 1]), (1, [2, 0]), (2, [1, 2])):
        signals = {} if round_ is None else {"round": round_}
        expected = scores.snip(loss, [single[i] for i in chosen])(PARAMS)
        jax.tree.map(np.testing.assert_array_equal, two(PARAMS, **signals), expected)
    for bad in (0, 4):
        with pytest.raises(InputError, match="each_round"):
            scores.grasp(loss, single, each_round=bad)


def test_the_program_does_not_grow_with_rounds():
    assert len(program(SNIP, rounds=100)) == len(program(SNIP, rounds=2)) < 3 * len(program(SNIP, rounds=1))


def test_errors():
    for bad in (0, -1, 2.0, None):
        with pytest.raises(InputError, match="rounds="):
            jt.start(scores.magnitude, 0.5, rounds=bad)
    with pytest.raises(InputError, match="share one density"):
        jt.start(scores.magnitude, 0.5, allocate=jt.allocate.erk, scope=scopes.tree(), rounds=2).init(
            PARAMS, None, key=None
        )
