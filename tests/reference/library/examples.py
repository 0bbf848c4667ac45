"""The library's side of traces of scores of training examples."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import data_pruning
from tests.reference.library.classifier import BATCHES, PARAMS, apply, criterion, observe
from tests.reference.published import area_under_margin as margins
from tests.reference.published import forgetting as trainings


def data_diet(size):
    x, labels = (jnp.concatenate(part) for part in zip(*BATCHES, strict=True))
    logits = apply(PARAMS, x)
    loss = lambda params, example: criterion(apply(params, example[0][None]), (None, example[1][None]))
    measured = {
        "el2n": jax.jit(data_pruning.el2n)(logits, labels),
        "grand": jax.jit(lambda p: data_pruning.grand(p, loss, (x, labels), batch_size=len(x)))(PARAMS),
        "margin": jax.jit(data_pruning.margin)(logits, labels),
    }
    measured["kept"] = data_pruning.hardest(measured["el2n"], size)
    return [{name: {"of all": values} for name, values in measured.items()}]


def forgetting(runs, epochs):
    watched, seen, over_runs = [], [], jax.jit(data_pruning.forgetting_over_runs)
    for rights in trainings.presentations(runs, epochs):
        statistics = data_pruning.init(rights.shape[1])
        for right in rights:
            statistics = observe(statistics, np.arange(len(right)), {"correct": jnp.asarray(right)})
        watched.append(statistics)
        events = over_runs(jax.tree.map(lambda *leaves: jnp.stack(leaves), *watched))
        seen.append({"events": {"of all": events}, "first": {"of all": statistics.first_learned}})
    return seen


def area_under_margin(epochs):
    (logits, labels), seen, score = margins.presentations(epochs), [], jax.jit(data_pruning.logit_margin)
    statistics = data_pruning.init(len(labels), measures=["margin"])
    for rows in logits:
        margin = score(jnp.asarray(rows, jnp.float32), jnp.asarray(labels))
        observed = {"correct": jnp.asarray(rows.argmax(1) == labels), "margin": margin}
        statistics = observe(statistics, np.arange(len(labels)), observed)
        seen.append({"area": {"of all": -data_pruning.means(statistics, "margin")}})
    return seen


LIBRARY = {"data_diet": data_diet, "forgetting": forgetting, "area_under_margin": area_under_margin}
