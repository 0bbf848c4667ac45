"""Diagnostics: what a search has found, in numbers. Models and data are arguments; nothing here trains."""

from jaxticket.diagnostics.budgets import Budget as Budget
from jaxticket.diagnostics.budgets import flops as flops
from jaxticket.diagnostics.budgets import scratch_b as scratch_b
from jaxticket.diagnostics.budgets import scratch_e as scratch_e
from jaxticket.diagnostics.collapse import layer_collapse as layer_collapse
from jaxticket.diagnostics.connectivity import Barrier as Barrier
from jaxticket.diagnostics.connectivity import Endpoint as Endpoint
from jaxticket.diagnostics.connectivity import barrier as barrier
from jaxticket.diagnostics.connectivity import lerp as lerp
from jaxticket.diagnostics.intervals import Interval as Interval
from jaxticket.diagnostics.intervals import interval as interval
from jaxticket.diagnostics.overlaps import Overlap as Overlap
from jaxticket.diagnostics.overlaps import overlaps as overlaps
from jaxticket.diagnostics.speed import early_stopping_step as early_stopping_step
from jaxticket.diagnostics.speed import steps_to_reach as steps_to_reach
from jaxticket.diagnostics.verdicts import Comparison as Comparison
from jaxticket.diagnostics.verdicts import Outcome as Outcome
from jaxticket.diagnostics.verdicts import Sample as Sample
from jaxticket.diagnostics.verdicts import Verdict as Verdict
from jaxticket.diagnostics.verdicts import verdict as verdict
