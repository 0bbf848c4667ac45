"""What is important: functions from parameters (and gradients) to scores; higher is more worth keeping."""

from jaxticket.scores.activation import activation_norm as activation_norm
from jaxticket.scores.activation import activation_taylor as activation_taylor
from jaxticket.scores.activation import apoz as apoz
from jaxticket.scores.activation import hrank as hrank
from jaxticket.scores.activation import mean_activation as mean_activation
from jaxticket.scores.activation import wanda as wanda
from jaxticket.scores.combine import weighted_sum as weighted_sum
from jaxticket.scores.normalise import lamp as lamp
from jaxticket.scores.normalise import layer_mean as layer_mean
from jaxticket.scores.normalise import module as module
from jaxticket.scores.normalise import unit_norm as unit_norm
from jaxticket.scores.pointwise import gradient as gradient
from jaxticket.scores.pointwise import magnitude as magnitude
from jaxticket.scores.pointwise import momentum as momentum
from jaxticket.scores.pointwise import movement as movement
from jaxticket.scores.pointwise import random as random
from jaxticket.scores.pointwise import saliency as saliency
from jaxticket.scores.probe import fisher as fisher
from jaxticket.scores.probe import grasp as grasp
from jaxticket.scores.probe import snip as snip
from jaxticket.scores.probe import synflow as synflow
from jaxticket.scores.probe import taylor as taylor
from jaxticket.scores.structured import fpgm as fpgm
from jaxticket.scores.structured import slimming as slimming
