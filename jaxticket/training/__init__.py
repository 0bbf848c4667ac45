"""Training under a mask: recipes, placements of replicates, and the one function that drives the steps."""

from jaxticket.training import nonfinite
from jaxticket.training._distillation import distill, divergence
from jaxticket.training._fit import FitFn, Fitted, fit
from jaxticket.training._placement import Placement, place, replicate
from jaxticket.training._recipe import Recipe
from jaxticket.training._subsets import Batch, ObserveFn, epoch_rows, mean, observer
from jaxticket.training._train import scan_train, train_fn

__all__ = [
    "Batch",
    "FitFn",
    "Fitted",
    "ObserveFn",
    "Placement",
    "Recipe",
    "distill",
    "divergence",
    "epoch_rows",
    "fit",
    "mean",
    "nonfinite",
    "observer",
    "place",
    "replicate",
    "scan_train",
    "train_fn",
]
