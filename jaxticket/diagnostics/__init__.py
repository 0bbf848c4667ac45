"""Diagnostics: the results of a search, in numbers. Models and data are arguments; nothing here trains."""

from jaxticket.diagnostics._budgets import Budget, flops, scratch_b, scratch_e
from jaxticket.diagnostics._collapse import layer_collapse
from jaxticket.diagnostics._connectivity import Barrier, Endpoint, barrier, lerp
from jaxticket.diagnostics._curvature import Eigenpair, hessian_product, hessian_top, hessian_trace
from jaxticket.diagnostics._intervals import Interval, interval
from jaxticket.diagnostics._kernels import FilterQuality, filter_quality
from jaxticket.diagnostics._neurons import DeadNeurons, cut_off, dead_neurons
from jaxticket.diagnostics._overlaps import Overlap, overlaps
from jaxticket.diagnostics._paths import effective_mask
from jaxticket.diagnostics._similarity import linear_cka
from jaxticket.diagnostics._speed import early_stopping_step, steps_to_reach
from jaxticket.diagnostics._verdicts import Comparison, Outcome, Sample, Verdict, verdict

__all__ = [
    "Barrier",
    "Budget",
    "Comparison",
    "DeadNeurons",
    "Eigenpair",
    "Endpoint",
    "FilterQuality",
    "Interval",
    "Outcome",
    "Overlap",
    "Sample",
    "Verdict",
    "barrier",
    "cut_off",
    "dead_neurons",
    "early_stopping_step",
    "effective_mask",
    "filter_quality",
    "flops",
    "hessian_product",
    "hessian_top",
    "hessian_trace",
    "interval",
    "layer_collapse",
    "lerp",
    "linear_cka",
    "overlaps",
    "scratch_b",
    "scratch_e",
    "steps_to_reach",
    "verdict",
]
