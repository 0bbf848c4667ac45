"""Learning-rate rewinding: the trained weights that are left train again by the schedule from an earlier step on."""

from tests.reference.published import imp

ABOUT = {
    "method": "imp",
    "paper": "Renda et al., 2020",
    "repository": "lottery-ticket/rewinding-iclr20-public",
    "commit": "273e67d",
    "settings": {"levels": 6, "rewind": 3, "policy": "learning_rate"},
    "deviations": [
        "Levels keep the rounded counts of all weights, where the authors' threshold is a percentile of the survivors.",
        "Momentum starts afresh, where the authors restore that of the checkpoint.",
    ],
}

rounds = imp.rounds
