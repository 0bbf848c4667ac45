"""The points of a sweep: the pretrained model pruned in one shot, and its agreement with the dense model."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from experiments.reports.sweeps import Sweep
from experiments.runs import environment
from experiments.runs.records import SweepRecord
from experiments.studies.essential import sentences
from experiments.studies.essential.config import CURVES, Config
from experiments.training.texts import sample
from jaxticket import diagnostics, filters, loops, models, scopes
from jaxticket.loops import PruneFn
from jaxticket.methods.analysis import essential_sparsity
from jaxticket.typing import Density, Params

_PRUNED = filters.match(r"^blocks/.*/kernel$")


class Lab(Sweep):
    """The records that a sweep has, and the model that it prunes, which is loaded when it is first read."""

    def __init__(self, config: Config, **looks: Any):
        super().__init__(config, ("cosine", "half_width", "neighbours"), **looks)

    @functools.cached_property
    def pretrained(self) -> models.Pretrained:
        return models.minilm(self.config.weights)

    @functools.cached_property
    def matrices(self) -> Params:
        return sentences.as_matrices(self.pretrained.params)

    def prunable(self) -> str:
        """Return the table of the matrices that are pruned; nothing, where no point is missing."""
        if not self.missing:
            return ""
        densities = sorted({float(_pruning(curve, sparsity)[1]) for curve, sparsity, _ in self.missing}, reverse=True)
        matrices = self.matrices  # loaded before anything is traced
        return environment.prunable(lambda _: (matrices, None), densities, where=_PRUNED)


def points(lab: Lab, show: Callable[[str], None]) -> Iterator[SweepRecord]:
    """Yield a record for each cell; finished ones are yielded as they are. `show` gets the current work."""
    yield from lab.finished
    if not lab.missing:
        return
    config = lab.config
    quality = jax.jit(sentences.agreement(lab.pretrained, texts(config)))
    sweep = functools.partial(essential_sparsity.sweep, lab.matrices, quality, where=_PRUNED)
    for curve, sparsity, seed in lab.missing:
        show(f"{curve}, sparsity {sparsity:.2f}")
        prune, density = _pruning(curve, sparsity)
        (point,) = sweep(prune=prune, densities=[density], key=jax.random.key(config.seed + seed))
        cosine, same = point.quality
        half_width = diagnostics.interval(cosine.tolist()).half_width
        measured = {"cosine": float(cosine.mean()), "half_width": half_width, "neighbours": float(same.mean())}
        yield SweepRecord(measured, curve, sparsity, seed)


def texts(config: Config) -> list[str]:
    return sample(config.text, config.sentences, seed=config.seed)


def _pruning(curve: str, sparsity: float) -> tuple[PruneFn, Density]:
    if curve in CURVES:
        return CURVES[curve], 1 - sparsity
    n, m = map(int, curve.split(":"))
    return loops.prune_by(scope=scopes.groups(m, axis=0)), n / m
