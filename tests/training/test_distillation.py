"""Distillation against float64, its gradient by hand, and a ticket that is trained by its dense parent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax, logsumexp

from jaxticket import loops, training
from jaxticket.errors import InputError
from jaxticket.tickets import Ticket

RNG = np.random.default_rng(0)
STUDENT, TEACHER = 3 * RNG.normal(size=(2, 7, 5))
LABELS = RNG.integers(0, 5, 7)


def expected(student, teacher, labels, temperature, weight):
    ours, theirs = log_softmax(student / temperature, 1), log_softmax(teacher / temperature, 1)
    soft = np.mean(np.sum(np.exp(theirs) * (theirs - ours), 1)) * temperature**2
    hard = np.mean(logsumexp(student, 1) - student[np.arange(len(labels)), labels])
    return weight * soft + (1 - weight) * hard


def make(temperature=4.0, weight=0.9, teacher=lambda batch: batch[1]):
    """The ticket's logits are its parameters times the batch's; the state counts its steps."""
    ours = lambda params, state, batch, key: (params * batch[0], state + 1)
    return training.distill(ours, teacher, labels=lambda batch: batch[2], temperature=temperature, weight=weight)


BATCH = (jnp.asarray(STUDENT, jnp.float32), jnp.asarray(TEACHER, jnp.float32), jnp.asarray(LABELS))


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (4.0, 0.9), (20.0, 0.5), (2.0, 0.0)])
def test_float64(temperature, weight):
    value, state = make(temperature, weight)(jnp.float32(1), 0, BATCH, None)
    assert float(value) == pytest.approx(expected(STUDENT, TEACHER, LABELS, temperature, weight), rel=1e-5)
    assert state == 1


def test_the_gradient_has_the_size_that_it_has_at_temperature_one():
    """T · (softmax(student / T) − softmax(teacher / T)): without T² it would fall with T², without 1 / T be hard."""
    student, teacher = (jnp.asarray(x, jnp.float32) for x in (STUDENT, TEACHER))
    for temperature in (1.0, 10.0):
        grad = jax.grad(lambda x: training.divergence(x, teacher, temperature=temperature))(student)
        ours, theirs = (np.exp(log_softmax(x / temperature, 1)) for x in (STUDENT, TEACHER))
        np.testing.assert_allclose(grad, temperature * (ours - theirs) / 7, rtol=1e-4, atol=1e-6)


def test_without_weight_the_teacher_has_no_say():
    """To the bit the gradient of cross-entropy; and with all the weight none where the ticket is its teacher."""
    of = lambda weight, batch: jax.grad(lambda p: make(weight=weight)(p, 0, batch, None)[0])(jnp.ones(BATCH[0].shape))
    hard = lambda p: optax.softmax_cross_entropy_with_integer_labels(p * BATCH[0], BATCH[2]).mean()
    np.testing.assert_array_equal(of(0.0, BATCH), jax.grad(hard)(jnp.ones(BATCH[0].shape)))
    np.testing.assert_allclose(of(1.0, (BATCH[0], BATCH[0], BATCH[2])), 0, atol=1e-7)


def test_a_high_temperature_is_regression_on_logits():
    """(z − z_T) / classes, centred (Hinton et al., 2015, equation 4): what is added to all logits does not count."""
    student, teacher = (jnp.asarray(x / 30, jnp.float32) for x in (STUDENT, TEACHER))
    grad = jax.grad(lambda x: training.divergence(x, teacher + 3, temperature=20.0))(student)
    difference = student - teacher
    centred = difference - difference.mean(1, keepdims=True)
    np.testing.assert_allclose(grad, centred / 5 / 7, rtol=0.02, atol=2e-5)


def test_nothing_flows_into_the_teacher():
    grads = jax.grad(lambda teacher: training.divergence(BATCH[0], teacher, temperature=2.0))(BATCH[1])
    assert not np.any(grads)
    shared = make(weight=1.0, teacher=lambda batch: batch[1])
    through = jax.grad(lambda p: shared(p, 0, (BATCH[0], p * BATCH[1], BATCH[2]), None)[0])(jnp.float32(1))
    fixed = jax.grad(lambda p: shared(p, 0, BATCH, None)[0])(jnp.float32(1))
    assert float(through) == pytest.approx(float(fixed), rel=1e-6)


@pytest.mark.slow
def test_a_ticket_learns_from_its_dense_parent():
    """With all weight on the teacher the labels, which are wrong here, do not matter."""
    x = jax.random.normal(jax.random.key(0), (64, 4))
    parent = {"kernel": jnp.diag(jnp.array([3.0, -3.0, 3.0, 0.0]))}
    logits = lambda params, state, batch, key: (batch[0] @ params["kernel"], state)
    loss = training.distill(
        logits, lambda batch: batch[0] @ parent["kernel"], labels=lambda batch: batch[1], temperature=4.0, weight=1.0
    )
    options = {"learning_rate": optax.constant_schedule(0.5), "batch_size": 16, "optimizer": optax.sgd}
    recipe = training.Recipe(loss=loss, data=(x, jnp.zeros(64, jnp.int32)), **options)
    ticket = Ticket({"kernel": jnp.zeros((4, 4))}, {"kernel": jnp.eye(4, dtype=bool)})
    train = training.train_fn(training.fit(recipe), steps=400)
    level = loops.train_level(train, ticket, index=0, density=0.25, key=jax.random.key(1))
    assert level.trained.metrics["loss"] < 1e-3
    probabilities = [jax.nn.softmax(x @ params["kernel"]) for params in (level.trained.params, parent)]
    np.testing.assert_allclose(*probabilities, atol=0.03)


def test_bad_input():
    for words, options in (
        ("temperature=0 must be above 0", {"temperature": 0}),
        ("temperature=inf", {"temperature": float("inf")}),
        ("weight=1.5 is not a fraction", {"weight": 1.5}),
    ):
        with pytest.raises(InputError, match=words):
            make(**options)
    with pytest.raises(InputError, match=r"shape \(7, 4\), but the ticket \(7, 5\)"):
        make()(jnp.float32(1), 0, (BATCH[0], BATCH[1][:, :4], BATCH[2]), None)
