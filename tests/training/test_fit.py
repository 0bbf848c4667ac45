"""Training epoch by epoch, step by step and as one function: exact zeros, rewound schedules, bits after a kill."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import tickets, training
from jaxticket.errors import CheckpointError, CheckpointWarning, DivergedError, InputError, StoppedError
from jaxticket.tickets import _store
from jaxticket.tickets._checkpoint import save_with
from tests.tiers import sample

X = jax.random.normal(jax.random.key(0), (50, 6))
MASK = {"kernel": jnp.arange(12).reshape(6, 2) % 3 > 0, "bias": None}
Y = X @ jnp.where(MASK["kernel"], jax.random.normal(jax.random.key(1), (6, 2)), 0)
KEY = jax.random.key(2)
traces = []


def start():
    return {"kernel": 0.1 * MASK["kernel"].astype(jnp.float32), "bias": jnp.zeros(2)}


def loss(params, state, batch, key):
    traces.append(1)
    x, y = batch
    noise = 0.01 * jax.random.normal(key, x.shape)
    return jnp.mean(((x + noise) @ params["kernel"] + params["bias"][None] - y) ** 2), state + 1


def recipe(**options):
    defaults = {"loss": loss, "data": (X, Y), "learning_rate": optax.constant_schedule(0.05), "batch_size": 8}
    return training.Recipe(**{**defaults, **options})


STEP_BY_STEP = functools.partial(training.fit, placement=training.Placement((jax.devices()[0],), "sequence", ""))


def make(*, loop=training.fit, checkpoint=None, progress=None, **options):
    return loop(recipe(**options), checkpoint=checkpoint, progress=progress)


def run(fit, *, step=0, steps=20, opt_state=None, params=None):
    return fit(params or start(), jnp.int32(0), MASK, KEY, step=step, steps=steps, opt_state=opt_state)


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b))
    )


def test_it_learns_and_masked_weights_stay_zero():
    fitted = run(make(), steps=120)
    assert fitted.loss < 0.5 * float(jnp.mean(Y**2))
    assert np.all(np.asarray(fitted.params["kernel"])[~np.asarray(MASK["kernel"])] == 0)
    assert int(fitted.state) == 120


def test_the_order_covers_each_example_once_an_epoch():
    seen = []

    def count(params, state, batch, key):
        return jnp.sum(0 * params["bias"]), state.at[batch].add(1)

    fit = make(loss=count, data=jnp.arange(50), learning_rate=optax.constant_schedule(0.0))
    for steps in (6, 12, 9):
        fitted = fit(start(), jnp.zeros(50, jnp.int32), MASK, KEY, step=0, steps=steps)
        seen.append(np.bincount(fitted.state, minlength=4).tolist())
    assert seen[0] == [2, 48, 0, 0]  # 50 examples, 6 batches of 8
    assert seen[1][0] + seen[1][1] + seen[1][2] == 50
    assert sum(i * n for i, n in enumerate(seen[2])) == 72


def test_training_in_two_parts_is_training_at_once():
    fit = make(
        optimizer=functools.partial(optax.adamw, weight_decay=0.1), learning_rate=optax.linear_schedule(0.1, 0, 20)
    )
    whole = run(fit, steps=20)
    first = run(fit, steps=7)
    second = fit(*first[:2], MASK, KEY, step=7, steps=13, opt_state=first.opt_state)
    assert equal(whole.params, second.params)
    assert equal(whole.opt_state, second.opt_state)


def test_a_fresh_optimizer_sees_the_schedule_from_the_rewind_step_on():
    rates = optax.piecewise_constant_schedule(1.0, {10: 0.1})
    fit = make(optimizer=optax.sgd, learning_rate=rates)
    one = lambda step: np.asarray(run(fit, step=step, steps=1).params["kernel"] - start()["kernel"])
    reference = make(optimizer=optax.sgd, learning_rate=optax.constant_schedule(1.0))
    late = np.asarray(run(reference, step=500, steps=1).params["kernel"] - start()["kernel"])
    np.testing.assert_allclose(one(500), 0.1 * late, rtol=1e-5, atol=1e-7)  # fine-tuning: past the end, the last value
    np.testing.assert_array_equal(one(9), run(reference, step=9, steps=1).params["kernel"] - start()["kernel"])


@pytest.mark.parametrize(("step", "steps"), sample([(0, 20), (4, 3), (4, 20), (6, 0)], [(4, 20), (6, 0)]))
def test_every_loop_makes_the_same_steps(step, steps):
    expected = run(make(), step=step, steps=steps)
    by_step = run(make(loop=STEP_BY_STEP), step=step, steps=steps)
    train = jax.jit(functools.partial(training.scan_train(recipe(), steps=steps), step=step))
    trained = train(start(), jnp.int32(0), MASK, KEY, opt_state=None)
    for params, state, mean in [
        (by_step.params, by_step.state, by_step.loss),
        (trained.params, trained.state, trained.metrics["loss"]),
    ]:
        np.testing.assert_allclose(params["kernel"], expected.params["kernel"], rtol=1e-5, atol=1e-7)
        assert int(state) == int(expected.state) == steps
        np.testing.assert_allclose(mean, expected.loss, rtol=1e-5)


@pytest.mark.parametrize("each", sample(["map", "vmap"], ["vmap"]))
def test_replicates_in_one_program_make_the_steps_of_each_alone(each, tmp_path):
    placement = training.Placement(tuple(jax.devices()[:2]), each, "")
    seen = []
    checkpoint = tickets.StepCheckpoint(tmp_path / "checkpoint", every=0)
    fit = training.fit(
        recipe(), placement=placement, checkpoint=checkpoint, progress=lambda step, loss: seen.append((step, loss))
    )
    keys = jax.random.split(jax.random.key(5), 3)
    stack = lambda *trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)
    fitted = fit(stack(*[start()] * 3), jnp.zeros(3, int), stack(*[MASK] * 3), keys, step=4, steps=11, opt_state=None)
    alone = [make()(start(), jnp.int32(0), MASK, key, step=4, steps=11, opt_state=None) for key in keys]
    for lane, expected in enumerate(alone):
        np.testing.assert_allclose(fitted.params["kernel"][lane], expected.params["kernel"], rtol=1e-5, atol=1e-7)
        assert int(fitted.state[lane]) == 11
    np.testing.assert_allclose(fitted.loss, [expected.loss for expected in alone], rtol=1e-5)
    assert [step for step, _ in seen] == [6, 12, 15]
    assert seen[-1][1] == pytest.approx(np.mean(fitted.loss))


def test_a_restored_optimizer_goes_on_in_every_loop():
    rates = optax.linear_schedule(0.1, 0, 20)
    make_both = lambda loop: make(loop=loop, learning_rate=rates)
    first = run(make_both(training.fit), steps=7)
    expected = run(make_both(training.fit), steps=20)
    rest = {"step": 7, "opt_state": first.opt_state}
    train = training.scan_train(recipe(learning_rate=rates), steps=13)
    trained = train(first.params, first.state, MASK, KEY, **rest)
    by_step = make_both(STEP_BY_STEP)(first.params, first.state, MASK, KEY, steps=13, **rest)
    for params in (trained.params, by_step.params):
        np.testing.assert_allclose(params["kernel"], expected.params["kernel"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loop", [training.fit, STEP_BY_STEP])
def test_one_compile_for_all_masks_keys_and_steps(loop):
    fit = make(loop=loop)
    run(fit)
    del traces[:]
    fit(start(), jnp.int32(0), {"kernel": ~MASK["kernel"], "bias": None}, jax.random.key(7), step=3, steps=11)
    fit(start(), jnp.int32(0), MASK, KEY, step=0, steps=20, opt_state=run(fit).opt_state)
    assert not traces


def test_convolutions_on_cpu_run_step_by_step_without_being_told():
    reached = []
    data = jnp.tile(X, (3, 1))  # an epoch of 150 steps
    loss = lambda params, state, batch, key: (jnp.mean((batch * params["kernel"].sum()) ** 2), state)
    fit = training.fit(recipe(data=data, loss=loss, batch_size=1), progress=lambda step, loss: reached.append(step))
    fit({"kernel": jnp.ones((1, 1, 1, 1))}, None, {"kernel": None}, KEY, step=0, steps=120)
    assert reached == [50, 100, 120]
    reached.clear()
    fit({"kernel": jnp.ones((1, 1))}, None, {"kernel": None}, KEY, step=0, steps=120)
    assert reached == [120]


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path):
    unbroken = run(make(), steps=30)

    def killed(step, loss):
        if step >= 12:
            raise KeyboardInterrupt

    checkpoint = lambda: tickets.StepCheckpoint(tmp_path / "c", every=0)
    with pytest.raises(KeyboardInterrupt):
        run(make(checkpoint=checkpoint(), progress=killed), steps=30)
    steps = []
    resumed = run(make(checkpoint=checkpoint(), progress=lambda step, loss: steps.append(step)), steps=30)
    assert steps == [18, 24, 30]
    assert equal(resumed, unbroken)
    # Killed again after its last step, before the result was kept: nothing is left to train.
    again = run(make(checkpoint=checkpoint(), progress=lambda step, loss: steps.append(step)), steps=30)
    assert steps == [18, 24, 30]
    assert equal(again, unbroken)
    assert len(list((tmp_path / "c").iterdir())) == 2  # the newest, and the one before


def test_steps_one_by_one_are_checkpointed_within_an_epoch(tmp_path):
    data = (jnp.tile(X, (3, 1)), jnp.tile(Y, (3, 1)))  # an epoch of 150 steps
    make_long = functools.partial(make, loop=STEP_BY_STEP, batch_size=1, data=data)
    unbroken = run(make_long(), steps=170)

    def killed(step, loss):
        if step >= 100:
            raise KeyboardInterrupt

    checkpoint = lambda: tickets.StepCheckpoint(tmp_path / "c", every=0)
    with pytest.raises(KeyboardInterrupt):
        run(make_long(checkpoint=checkpoint(), progress=killed), steps=170)
    reached = []
    resumed = run(make_long(checkpoint=checkpoint(), progress=lambda step, loss: reached.append(step)), steps=170)
    assert reached == [150, 170]
    assert equal(resumed, unbroken)


def test_a_checkpoint_serves_only_the_training_that_wrote_it(tmp_path):
    checkpoint = tickets.StepCheckpoint(tmp_path / "c", every=0)
    fit = make(checkpoint=checkpoint)
    run(fit, steps=12)
    other = lambda: {**start(), "bias": jnp.ones(2)}
    assert equal(run(fit, params=other(), steps=12), run(make(), params=other(), steps=12))
    checkpoint.clear()
    assert not (tmp_path / "c").exists()


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path):
    unbroken = run(make(), steps=12)
    checkpoint = lambda: tickets.StepCheckpoint(tmp_path / "c", every=0)
    run(make(checkpoint=checkpoint()), steps=12)
    damage = lambda record: record.write_text(record.read_text()[:-10])
    for left, steps in ((1, [12]), (0, [6, 12])):  # states that are whole, and steps that are trained again
        for record in sorted(tmp_path.glob("c/state_*/record.json"))[left:]:
            damage(record)
        reached = []
        with pytest.warns(CheckpointWarning, match="is damaged.* set aside as damaged_state"):
            resumed = run(make(checkpoint=checkpoint(), progress=lambda step, loss: reached.append(step)), steps=12)
        assert reached == steps
        assert equal(resumed, unbroken)


def test_a_run_that_shall_stop_saves_first(tmp_path):
    unbroken = run(make(), steps=30)
    reached = []
    checkpoint = tickets.StepCheckpoint(tmp_path / "c", every=1000, stop=lambda: len(reached) == 2)
    with pytest.raises(StoppedError, match="after step 18"):
        run(make(checkpoint=checkpoint, progress=lambda step, loss: reached.append(step)), steps=30)
    again = tickets.StepCheckpoint(tmp_path / "c", every=1000)
    assert equal(run(make(checkpoint=again, progress=lambda step, loss: reached.append(step)), steps=30), unbroken)
    assert reached == [6, 12, 24, 30]


def broken_at(step, **options):
    """A recipe whose gradients are NaN at one step; the state, which counts the steps, stays there if it is skipped."""

    def broken(params, state, batch, key):
        value, after = loss(params, state, batch, key)
        return jnp.where(state == step, jnp.nan, 1.0) * value, after

    return recipe(loss=broken, **options)


@pytest.mark.slow
def test_nan_stops_with_the_last_good_state_kept(tmp_path):
    checkpoint = tickets.StepCheckpoint(tmp_path / "c", every=0)
    for loop in (training.fit, STEP_BY_STEP):
        with pytest.raises(DivergedError, match="not finite at step 18;"):
            run(loop(broken_at(12), checkpoint=checkpoint, on_nan="stop"), steps=30)
    (*_, newest) = sorted(tmp_path.glob("c/state_*"))
    assert tickets.load(newest).step == 12
    assert np.isfinite(tickets.load(newest).params["kernel"]).all()
    recorded = run(training.fit(broken_at(12)), steps=30)
    assert np.isnan(recorded.loss)


@pytest.mark.slow
def test_nan_names_the_replicate_that_diverged():
    placement = training.Placement(tuple(jax.devices()[:1]), "vmap", "")
    fit = training.fit(broken_at(8), placement=placement, on_nan="stop")
    params, mask = (jax.tree.map(lambda x: jnp.stack([x] * 3), tree) for tree in (start(), MASK))
    state = jnp.array([0, 4, 100], jnp.int32)  # counts of steps: the second comes to 8 in the first epoch
    with pytest.raises(DivergedError, match="at step 6 in replicate 1 of this program"):
        fit(params, state, mask, jax.random.split(KEY, 3), step=0, steps=12, opt_state=None)


def test_nan_is_skipped_and_counted():
    bad = 7
    skipping = training.nonfinite.skip(recipe(data=(X.at[bad].set(jnp.nan), Y)))
    train = training.train_fn(training.fit(skipping, on_nan="skip"), steps=30)
    trained = train(start(), jnp.int32(0), MASK, KEY, step=0, opt_state=None)
    drawn = sum(bad in np.asarray(skipping.order(epoch, key=KEY))[:48] for epoch in range(5))
    assert trained.metrics["skipped_steps"] == drawn >= 4
    assert int(trained.state) == 30 - drawn
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.params))


@pytest.mark.slow
def test_skipping_gives_up_after_ten_steps_in_a_row():
    with pytest.raises(DivergedError, match=r"not finite at step 24; .* on_nan=record"):
        run(training.fit(training.nonfinite.skip(broken_at(8)), on_nan="skip"), steps=30)


def test_checkpoints_are_not_due_all_the_time(tmp_path):
    run(make(checkpoint=tickets.StepCheckpoint(tmp_path / "c", every=1000)), steps=30)
    assert not (tmp_path / "c").exists()


def test_the_train_function_evaluates_once_and_returns_floats():
    train = training.train_fn(
        make(), steps=6, evaluate=lambda params, state: {"count": state, "norm": params["bias"].sum()}
    )
    trained = train(start(), jnp.int32(0), MASK, KEY, step=2, opt_state=None)
    assert set(trained.metrics) == {"loss", "count", "norm"}
    assert trained.metrics["count"] == 6.0
    assert all(type(v) is float for v in trained.metrics.values())


def test_bad_arguments():
    for size in (0, 51):
        with pytest.raises(InputError, match=f"batch_size={size}"):
            make(batch_size=size)
    with pytest.raises(InputError, match=r"arrays of \[3, 4\] examples"):
        recipe(data=(jnp.ones((4, 6)), jnp.ones((3, 2))))
    for make_train in (lambda: training.train_fn(make(), steps=-1), lambda: training.scan_train(recipe(), steps=-1)):
        with pytest.raises(InputError, match="steps=-1"):
            make_train()


def test_a_saved_ticket_that_is_no_state_of_a_training_is_refused(tmp_path):
    ticket = tickets.Ticket({"w": jnp.ones(2)}, {"w": None})
    save_with(tmp_path / "state_000000000", ticket, record={"origin": "here", "values": [1]})
    with pytest.raises(CheckpointError, match="state_000000000 holds no values of a training; delete it"):
        tickets.StepCheckpoint(tmp_path, every=0).load("here", ticket)
    key = jax.random.key(0)
    save_with(
        tickets.Store(tmp_path).path(0),
        ticket,
        trees={"trained_params": ticket.params, "trained_state": None},
        record={"origin": _store._origin(ticket, key)},
    )
    with pytest.raises(CheckpointError, match="level_000 holds no metrics of a level"):
        tickets.Store(tmp_path).load(0, ticket, key=key)
