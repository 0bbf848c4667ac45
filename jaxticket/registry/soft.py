"""Methods that train weights under soft masks, which harden towards the end of the training.

PDP is dense for a twentieth of the training, grows sparse for half of it, and hardens after nine tenths, which leaves a
tenth to train the ticket. Its temperature is t² / 20, whatever the scale of the weights: the authors' 1e-4 is that
where the weights at the threshold are of 0.045.

BiP is not here, for it begins from trained weights; nor are methods whose sparsity a penalty decides.
"""

from jaxticket.registry.method import Method, Setting
from jaxticket.reparam import Reparam, pdp

__all__ = ["METHODS"]


def _pdp(s: Setting) -> Reparam:
    start, ramp = s.part(0.05), s.part(0.5)
    stop = max(s.part(0.9), start + ramp)  # trainings of a few steps
    return pdp(s.density, start=start, ramp=ramp, stop=stop, temperature=lambda square: 0.05 * square)


METHODS = (
    Method(
        name="pdp",
        paper="Cho et al. 2023, PDP",
        unit="element",
        when="during",
        scope="tree",
        data="none",
        needs=frozenset(),
        regrows=True,
        arguments="reparam.pdp(density, start=50, ramp=500, stop=900, temperature=lambda square: 0.05 * square)",
        evidence=("tests/reparam/test_soft.py", "tests/golden/soft.json", "tests/science/test_soft.py"),
        make=_pdp,
    ),
)
