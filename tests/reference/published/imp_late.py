"""Iterative magnitude pruning with weights rewound to a step early in training."""

from tests.reference.published import imp

ABOUT = {
    **imp.ABOUT,
    "method": "imp",
    "paper": "Frankle et al., 2019",
    "settings": {**imp.ABOUT["settings"], "rewind": 3},
}

rounds = imp.rounds
