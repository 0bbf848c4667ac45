"""GraNet from a dense network."""

from tests.reference.problem import STEPS
from tests.reference.published import granet

ABOUT = {
    **granet.ABOUT,
    "method": "granet",
    "settings": {"density": 0.15, "initial": 1, "steps": STEPS, "every": 4, "stop": 16, "drop_fraction": 0.5},
}
run = granet.run
