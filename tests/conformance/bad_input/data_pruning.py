"""Rows of scores of examples, subsets and statistics."""

import jax.numpy as jnp

from jaxticket import data_pruning
from jaxticket.data_pruning import Statistics
from tests.conformance.bad_input.roles import Array, Count, Fraction, Tree
from tests.conformance.bad_input.values import PARAMS, Call, K, call, on_host

LOGITS, LABELS = Array(jnp.ones((5, 3))), Array(jnp.array([0, 1, 2, 1, 0]))
HARDNESS = Array(jnp.arange(5.0))
SIZE, BALANCE = Fraction(0.6), Fraction(0.5)
SEEN: Statistics = data_pruning.update(
    data_pruning.init(5, ["el2n"]), jnp.arange(3), {"correct": jnp.ones(3, bool), "el2n": jnp.ones(3)}
)

DATA_PRUNING: dict[str, Call] = {
    "data_pruning.el2n": call(data_pruning.el2n, logits=LOGITS, labels=LABELS),
    "data_pruning.margin": call(data_pruning.margin, logits=LOGITS, labels=LABELS),
    "data_pruning.logit_margin": call(data_pruning.logit_margin, logits=LOGITS, labels=LABELS),
    "data_pruning.entropy": call(data_pruning.entropy, logits=LOGITS, labels=LABELS),
    "data_pruning.cross_entropy": call(data_pruning.cross_entropy, logits=LOGITS, labels=LABELS),
    "data_pruning.grand_last_layer": call(
        data_pruning.grand_last_layer, features=Array(jnp.ones((5, 4))), logits=LOGITS, labels=LABELS
    ),
    "data_pruning.grand": call(
        lambda params, examples, batch_size: data_pruning.grand(
            params, lambda params, x: jnp.sum(params["a"]["kernel"]) * jnp.sum(x), examples, batch_size=batch_size
        ),
        params=Tree(PARAMS, used=True),
        examples=Array(jnp.ones((5, 4))),
        batch_size=Count(2),
    ),
    "data_pruning.hardest": on_host(data_pruning.hardest, scores=HARDNESS, size=SIZE, labels=LABELS, balance=BALANCE),
    "data_pruning.easiest": on_host(data_pruning.easiest, scores=HARDNESS, size=SIZE, labels=LABELS, balance=BALANCE),
    "data_pruning.middle": on_host(
        data_pruning.middle, scores=HARDNESS, size=SIZE, skip=Fraction(0.2), labels=LABELS, balance=BALANCE
    ),
    "data_pruning.random_subset": on_host(
        data_pruning.random_subset, key=K, examples=Count(5), size=SIZE, labels=LABELS, balance=BALANCE
    ),
    "data_pruning.init": call(lambda examples: data_pruning.init(examples, ["el2n"]), examples=Count(5)),
    "data_pruning.update": call(
        lambda index, correct, el2n: data_pruning.update(SEEN, index, {"correct": correct, "el2n": el2n}),
        index=Array(jnp.arange(3)),
        correct=Array(jnp.ones(3, bool)),
        el2n=Array(jnp.ones(3)),
    ),
}
EXEMPT_DATA_PRUNING = {
    "data_pruning.forgetting": "takes what init and update give",
    "data_pruning.forgetting_over_runs": "takes what init and update give, stacked: tests/data_pruning",
    "data_pruning.means": "takes what init and update give: tests/data_pruning",
    "data_pruning.statistics_of": "takes what a training gives: tests/data_pruning",
    "training.mean": "takes two arrays, inside a loss",
    "training.observer": "takes functions",
    "training.epoch_rows": "takes a recipe: tests/data_pruning",
    "data_pruning.save_subset": "a file: tests/data_pruning",
    "data_pruning.load_subset": "a file: tests/data_pruning",
}
