"""PrAC sets: tickets found on the examples that are hard to learn, or forgotten by pruning (Zhang et al., 2021)."""

from jaxticket.methods.datasets.prac.rounds import ChooseFn as ChooseFn
from jaxticket.methods.datasets.prac.rounds import Round as Round
from jaxticket.methods.datasets.prac.rounds import prac as prac
from jaxticket.methods.datasets.prac.sets import Found as Found
from jaxticket.methods.datasets.prac.sets import hard as hard
from jaxticket.methods.datasets.prac.sets import most_forgotten as most_forgotten
from jaxticket.methods.datasets.prac.sets import prac_set as prac_set
from jaxticket.methods.datasets.prac.stopping import Plan as Plan
from jaxticket.methods.datasets.prac.stopping import Settling as Settling
from jaxticket.methods.datasets.prac.stopping import allowed_epochs as allowed_epochs
from jaxticket.methods.datasets.prac.stopping import iterations_saved as iterations_saved
from jaxticket.methods.datasets.prac.stopping import mask_distance as mask_distance
from jaxticket.methods.datasets.prac.stopping import settle as settle
from jaxticket.methods.datasets.prac.stopping import settling as settling
