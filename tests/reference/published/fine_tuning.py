"""Fine-tuning: the trained weights that are left train on at the last learning rate."""

from tests.reference.published import imp, learning_rate_rewinding

ABOUT = {
    **learning_rate_rewinding.ABOUT,
    "settings": {**learning_rate_rewinding.ABOUT["settings"], "policy": "fine_tune"},
}

rounds = imp.rounds
