"""Which examples are worth training on: a perceptron's theory, EL2N on digits, and what a teacher adds to a few."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import average_precision_score

from jaxticket import data_pruning, diagnostics, training
from jaxticket.data import mnist5k
from jaxticket.methods.datasets.memorisation import draw_subsets, memorisation
from tests.science import digits

pytestmark = pytest.mark.science

SEEDS = 4


def difference(better, worse):
    """The mean of the paired differences, and the two ends of its 95 % interval."""
    mean, half = diagnostics.interval(np.subtract(better, worse).tolist())
    return mean, mean - half, mean + half


WIDTH = 200


def students(key, alpha):
    """Errors of perceptrons that are taught by the easy, a random and the hard half of alpha · WIDTH examples.

    The teacher itself says how hard an example is: how near it lies to the teacher's boundary.
    """
    teacher_key, x_key, random_key = jax.random.split(key, 3)
    teacher, x = jax.random.normal(teacher_key, (WIDTH,)), jax.random.normal(x_key, (alpha * WIDTH, WIDTH))
    field = x @ teacher
    hardness = -jnp.abs(field)
    subsets = [data_pruning.easiest(hardness, 0.5), data_pruning.random_subset(len(x), 0.5, key=random_key)]
    subsets.append(data_pruning.hardest(hardness, 0.5))

    def error(subset):
        signed, share = x * jnp.sign(field)[:, None], subset / jnp.sum(subset)
        gradient = lambda w: -(share * jax.nn.sigmoid(-signed @ w)) @ signed + 1e-4 * w
        w = jax.lax.fori_loop(0, 500, lambda _, w: w - 0.5 * gradient(w), jnp.zeros(WIDTH))
        return jnp.arccos(w @ teacher / jnp.linalg.norm(w) / jnp.linalg.norm(teacher)) / jnp.pi

    return jax.vmap(error)(jnp.stack(subsets))


@pytest.mark.parametrize(("alpha", "order"), [(2, "easy random hard"), (8, "hard easy random")])
def test_a_perceptron_keeps_easy_examples_where_they_are_few_and_hard_ones_where_they_are_many(alpha, order):
    """Sorscher et al. (2022), in every replicate, with alpha examples for each weight, half of which are kept."""
    found = jax.jit(jax.vmap(lambda key: students(key, alpha)))(jax.random.split(jax.random.key(0), SEEDS))
    errors = dict(zip(["easy", "random", "hard"], np.asarray(found).T, strict=True))
    print(f"alpha {alpha}: { ({name: round(float(values.mean()), 3) for name, values in errors.items()}) }")
    best, next_best, worst = (errors[name] for name in order.split())
    assert np.all(best < next_best)
    assert np.all(next_best < worst)


@functools.cache
def mnist():
    """4,000 digits to train and 1,000 to test, of 14 × 14 pixels."""
    data = mnist5k(seed=0, validation=0)
    halved = lambda x: jnp.asarray(x).reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196)
    return (halved(data.train.x), data.train.y), (halved(data.test.x), data.test.y)


class Trainings:
    """Replicates on subsets of the digits, all of which one program trains."""

    def __init__(self, y, *, x=None, rate=1e-3):
        (every, _), self.test = mnist()
        self.x, self.y = every if x is None else x, jnp.asarray(y)
        recipe = training.Recipe(
            loss=self.loss,
            data=(self.x, self.y),
            learning_rate=optax.constant_schedule(rate),
            batch_size=64,
        )
        placement = training.Placement(tuple(jax.devices()[:1]), "vmap", "")
        self.fit = training.fit(recipe, placement=placement)

    @staticmethod
    def loss(params, state, batch, key):
        x, y = batch.examples
        values = optax.softmax_cross_entropy_with_integer_labels(digits.apply(params, x), y)
        return training.mean(values, batch.real), state

    def params(self, subsets, seed, steps):
        keys = jax.random.split(jax.random.key(seed), len(subsets))
        params = jax.vmap(lambda key: digits.init(key, (196, 64, 10)))(keys)
        masks = jax.tree.map(lambda p: jnp.ones(p.shape, bool), params)
        return self.fit(params, None, masks, keys, step=0, steps=steps, subset=subsets).params

    def el2n(self):
        """The mean of the scores that as many other networks as there are seeds give after five epochs."""
        params = self.params(jnp.ones((SEEDS, len(self.y)), bool), 1, 5 * 63)
        logits = jax.vmap(digits.apply, (0, None))(params, self.x)
        return jax.vmap(data_pruning.el2n, (0, None))(logits, self.y).mean(0)

    def accuracy(self, subsets, *, steps=600):
        """In %, of a replicate a subset; all arms start from the same weights."""
        return np.asarray(jax.vmap(digits.accuracy, (0, None))(self.params(subsets, 2, steps), self.test))


def test_the_half_that_el2n_finds_hardest_trains_as_well_as_all():
    """Data Diet (Paul et al., 2021), all for as many steps: a random half is worse, and the easiest one far worse."""
    trainings = Trainings(mnist()[0][1])
    scores, examples = trainings.el2n(), len(trainings.y)
    same = lambda subset: jnp.stack([subset] * SEEDS)
    keys = jax.random.split(jax.random.key(3), SEEDS)
    arms = {
        "all": jnp.ones((SEEDS, examples), bool),
        "random": jnp.stack([data_pruning.random_subset(examples, 0.5, key=key) for key in keys]),
        "hardest": same(data_pruning.hardest(scores, 0.5)),
        "easiest": same(data_pruning.easiest(scores, 0.5)),
    }
    accuracy = {name: trainings.accuracy(subsets) for name, subsets in arms.items()}
    print({name: f"{values.mean():.2f} %" for name, values in accuracy.items()})
    for better, worse, points in (("hardest", "random", 0.2), ("hardest", "all", -0.3), ("random", "easiest", 1)):
        mean, least, most = difference(accuracy[better], accuracy[worse])
        print(f"{better} − {worse}: {mean:.2f} ({least:.2f} … {most:.2f}) points")
        assert least > points


def test_wrong_labels_are_among_the_hardest():
    """Of 10 % that are: more than half of the hardest tenth, and training is better without it (Data Diet's offset)."""
    (_, y), _ = mnist()
    chosen = jax.random.split(jax.random.key(5))
    wrong = data_pruning.random_subset(len(y), 0.1, key=chosen[0])
    trainings = Trainings(jnp.where(wrong, (y + jax.random.randint(chosen[1], y.shape, 1, 10)) % 10, y))
    scores = trainings.el2n()
    tenth = data_pruning.hardest(scores, 0.1)
    precision = float(jnp.sum(tenth & wrong) / jnp.sum(tenth))
    same = lambda subset: jnp.stack([subset] * SEEDS)
    hardest = trainings.accuracy(same(data_pruning.hardest(scores, 0.5)), steps=1500)
    middle = trainings.accuracy(same(data_pruning.middle(scores, 0.5, skip=0.1)), steps=1500)
    mean, least, most = difference(middle, hardest)
    print(f"precision {precision:.2f}; without the hardest tenth {mean:+.1f} ({least:.1f} … {most:.1f}) points")
    assert precision > 0.5
    assert least > 0


@pytest.mark.parametrize(("epochs", "least", "most"), [(30, 0.5, 1), (1, 0.1, 0.3)])
def test_memorisation_finds_wrong_labels_once_networks_fit_them_and_not_before(epochs, least, most):
    """Feldman & Zhang (2020), a fifth of 300 digits mislabelled: the control has seen each example just once."""
    (x, y), _ = mnist()
    x, y, models = x[:300], y[:300], 28
    chosen = jax.random.split(jax.random.key(7))
    wrong = data_pruning.random_subset(len(y), 0.2, key=chosen[0])
    trainings = Trainings(jnp.where(wrong, (y + jax.random.randint(chosen[1], y.shape, 1, 10)) % 10, y), x=x, rate=5e-3)
    found = []
    for seed in range(SEEDS):
        included = draw_subsets(models, len(y), key=jax.random.key(10 + seed))
        params = trainings.params(included, 20 + seed, epochs * 4)  # of 210 examples, 64 a step
        right = jax.vmap(digits.apply, (0, None))(params, x).argmax(-1) == trainings.y[None]
        found.append(average_precision_score(wrong, memorisation(right, included)))
    mean, low, high = difference(found, [0] * SEEDS)
    print(f"{epochs} epochs: average precision {mean:.2f} ({low:.2f} … {high:.2f})")
    assert least < low
    assert high < most


def test_a_teacher_of_all_examples_helps_where_few_are_kept():
    """60 of 1,200 at random (Ben-Baruch et al., 2024): its logits of these are worth three points and more."""
    (x, y), test = digits.digits()
    replicates, kept = 5, 60
    init = jax.jit(jax.vmap(lambda key: digits.init(key, (64, 100, 10))))
    teacher_keys, student_keys, subset_keys = jax.random.split(jax.random.key(0), (3, replicates))

    def trained(loss, data, params, key):
        rate = optax.constant_schedule(1.2e-3)
        recipe = training.Recipe(loss=loss, data=data, learning_rate=rate, batch_size=30)
        masks = jax.tree.map(lambda p: jnp.ones(p.shape, bool), params)
        return training.scan_train(recipe, steps=500)(params, None, masks, key, step=0, opt_state=None).params

    def teach(params, key):
        return trained(lambda params, state, batch, key: (digits.loss(params, batch), state), (x, y), params, key)

    def students(teacher, params, key, subset_key):
        rows = jnp.nonzero(data_pruning.random_subset(len(y), kept, key=subset_key), size=kept)[0]
        data = (x[rows], y[rows], digits.apply(teacher, x[rows]))

        def accuracy(weight):
            logits = lambda params, state, batch, key: (digits.apply(params, batch[0]), state)
            options = {"labels": lambda batch: batch[1], "temperature": 4.0, "weight": weight}
            loss = training.distill(logits, lambda batch: batch[2], **options)
            return digits.accuracy(trained(loss, data, params, key), test)

        return jax.vmap(accuracy)(jnp.array([0.0, 0.9]))

    teachers = jax.jit(jax.vmap(teach))(init(teacher_keys), teacher_keys)
    found = jax.jit(jax.vmap(students))(teachers, init(student_keys), student_keys, subset_keys)
    alone, taught = np.asarray(found).T
    mean, least, most = difference(taught, alone)
    print(f"{alone.mean():.1f} % alone, {taught.mean():.1f} % taught: {mean:+.1f} ({least:.1f} … {most:.1f}) points")
    assert least >= 3
