"""Training on fewer examples: statistics of examples during a training, choices of those to keep, and their batches.

Scores are (examples,) arrays, higher = harder; a subset is a (examples,) mask.
"""

from jaxticket.data_pruning._example_scores import (
    cross_entropy,
    el2n,
    entropy,
    grand,
    grand_last_layer,
    logit_margin,
    margin,
)
from jaxticket.data_pruning._statistics import (
    NEVER_LEARNED,
    Statistics,
    Tracked,
    forgetting,
    forgetting_over_runs,
    init,
    means,
    statistics_of,
    update,
)
from jaxticket.data_pruning._subsets import easiest, hardest, load_subset, middle, random_subset, save_subset

__all__ = [
    "NEVER_LEARNED",
    "Statistics",
    "Tracked",
    "cross_entropy",
    "easiest",
    "el2n",
    "entropy",
    "forgetting",
    "forgetting_over_runs",
    "grand",
    "grand_last_layer",
    "hardest",
    "init",
    "load_subset",
    "logit_margin",
    "margin",
    "means",
    "middle",
    "random_subset",
    "save_subset",
    "statistics_of",
    "update",
]
