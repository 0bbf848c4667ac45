"""Scores of importance: functions from parameters (and gradients) to scores; higher is more worth keeping."""

from jaxticket.scores._activation import activation_norm, activation_taylor, apoz, hrank, mean_activation
from jaxticket.scores._combine import weighted_sum
from jaxticket.scores._normalise import lamp, layer_mean, module, unit_norm
from jaxticket.scores._pointwise import gradient, magnitude, momentum, movement, random, saliency, unfired
from jaxticket.scores._probe import fisher, grasp, snip, synflow, taylor
from jaxticket.scores._structured import fpgm, slimming
from jaxticket.scores._wanda import wanda

__all__ = [
    "activation_norm",
    "activation_taylor",
    "apoz",
    "fisher",
    "fpgm",
    "gradient",
    "grasp",
    "hrank",
    "lamp",
    "layer_mean",
    "magnitude",
    "mean_activation",
    "module",
    "momentum",
    "movement",
    "random",
    "saliency",
    "slimming",
    "snip",
    "synflow",
    "taylor",
    "unfired",
    "unit_norm",
    "wanda",
    "weighted_sum",
]
