"""PrAC sets: tickets from the examples that are hard to learn, or forgotten by pruning (Zhang et al., 2021)."""

from jaxticket.methods.datasets.prac._rounds import ChooseFn, Round, prac
from jaxticket.methods.datasets.prac._sets import Outcome, hard, most_forgotten, prac_set
from jaxticket.methods.datasets.prac._stopping import (
    Plan,
    Settling,
    allowed_epochs,
    init_settling,
    iterations_saved,
    mask_distance,
    readme_plan,
    settle,
)

__all__ = [
    "ChooseFn",
    "Outcome",
    "Plan",
    "Round",
    "Settling",
    "allowed_epochs",
    "hard",
    "init_settling",
    "iterations_saved",
    "mask_distance",
    "most_forgotten",
    "prac",
    "prac_set",
    "readme_plan",
    "settle",
]
