"""Models as pure functions on plain nested dicts, built with flax NNX: the only place that imports flax."""

from jaxticket.models._model import Model as Model
from jaxticket.models.lenet import lenet_300_100 as lenet_300_100
