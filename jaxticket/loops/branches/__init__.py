"""Controls: what a winning ticket is compared with. Each makes another ticket of a ticket.

Its training is the ticket's: the step stays, and so do the learning rates that a schedule gives from there.
"""

from jaxticket.loops.branches.others import rewinding_sweep as rewinding_sweep
from jaxticket.loops.branches.others import transfer as transfer
from jaxticket.loops.branches.structures import dense as dense
from jaxticket.loops.branches.structures import global_random_ticket as global_random_ticket
from jaxticket.loops.branches.structures import inverted_mask as inverted_mask
from jaxticket.loops.branches.structures import inverted_scores as inverted_scores
from jaxticket.loops.branches.structures import random_ticket as random_ticket
from jaxticket.loops.branches.values import InitFn as InitFn
from jaxticket.loops.branches.values import random_reinit as random_reinit
from jaxticket.loops.branches.values import sign_reinit as sign_reinit
from jaxticket.loops.branches.widths import small_dense as small_dense
from jaxticket.loops.branches.widths import widest as widest
