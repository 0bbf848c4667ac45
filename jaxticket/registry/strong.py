"""Methods that search an untrained network for a strong ticket: scores are trained, and the weights stay as drawn.

Draw the weights as the papers do (`reparam.signed_constant`, `reparam.kaiming_normal`), and train by SGD with a cosine:
learning rate 0.1, momentum 0.9, weight decay 1e-4 to 5e-4. Signed supermasks are not here: a threshold, not a density,
says how many weights they keep.
"""

import functools

from jaxticket.registry.method import Method
from jaxticket.reparam import biprop, edge_popup

__all__ = ["METHODS"]

_strong = functools.partial(
    Method,
    unit="element",
    when="during",
    scope="leaf",
    data="batch",
    needs=frozenset({"gradients", "key"}),
    regrows=True,
    evidence=("tests/reparam/test_supermask.py", "tests/golden/supermask.json", "tests/science/test_supermasks.py"),
)

METHODS = (
    _strong(
        name="edge_popup",
        paper="Ramanujan et al. 2020, edge-popup",
        arguments="reparam.edge_popup(density)",
        make=lambda s: edge_popup(s.density),
    ),
    _strong(
        name="biprop",
        paper="Diffenderfer & Kailkhura 2021, Biprop",
        arguments="reparam.biprop(density)",
        make=lambda s: biprop(s.density),
    ),
)
