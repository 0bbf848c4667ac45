"""Sparse model soups: copies of one ticket, retrained apart and averaged (Zimmer et al., 2024).

Between two prunings the copies differ in the order of the examples, the learning rate, the weight decay or the length
of their training. Their average is as sparse as each of them, and the next phase prunes it: `search` is `imp` whose
training of a level ends in an average.
"""

from jaxticket.loops.soups.averages import average as average
from jaxticket.loops.soups.averages import ensemble as ensemble
from jaxticket.loops.soups.averages import recalibrate as recalibrate
from jaxticket.loops.soups.averages import shared_mask as shared_mask
from jaxticket.loops.soups.averages import soup as soup
from jaxticket.loops.soups.members import Varied as Varied
from jaxticket.loops.soups.members import at_once as at_once
from jaxticket.loops.soups.members import in_turn as in_turn
from jaxticket.loops.soups.members import vary as vary
from jaxticket.loops.soups.search import MeasureFn as MeasureFn
from jaxticket.loops.soups.search import MergeFn as MergeFn
from jaxticket.loops.soups.search import Soup as Soup
from jaxticket.loops.soups.search import StateFn as StateFn
from jaxticket.loops.soups.search import greedy as greedy
from jaxticket.loops.soups.search import phases as phases
from jaxticket.loops.soups.search import search as search
from jaxticket.loops.soups.search import souped as souped
from jaxticket.loops.soups.search import uniform as uniform
