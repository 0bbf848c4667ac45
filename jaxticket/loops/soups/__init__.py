"""Sparse model soups: copies of one ticket, retrained separately and averaged (Zimmer et al., 2024).

Between two prunings the copies differ in the order of the examples, the learning rate, the weight decay or the length
of their training. Their average is as sparse as each of them, and the next phase prunes it: `search` is `imp` whose
training of a level ends in an average.
"""

from jaxticket.loops.soups._averages import average, ensemble, recalibrate, shared_mask, soup
from jaxticket.loops.soups._members import Varied, at_once, in_turn, vary
from jaxticket.loops.soups._search import MeasureFn, MergeFn, Soup, StateFn, greedy, phases, search, soup_train, uniform

__all__ = [
    "MeasureFn",
    "MergeFn",
    "Soup",
    "StateFn",
    "Varied",
    "at_once",
    "average",
    "ensemble",
    "greedy",
    "in_turn",
    "phases",
    "recalibrate",
    "search",
    "shared_mask",
    "soup",
    "soup_train",
    "uniform",
    "vary",
]
