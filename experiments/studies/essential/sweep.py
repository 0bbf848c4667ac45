"""The points of a sweep: the pretrained model pruned in one shot, and its agreement with the dense model."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax

from experiments.runs.records import Line, SweepRecord, whole
from experiments.studies.essential import sentences
from experiments.studies.essential.config import CURVES, Config
from jaxticket import diagnostics, filters, loops, models, scopes
from jaxticket.loops import PruneFn
from jaxticket.methods.analysis import essential_sparsity
from jaxticket.typing import Density


def points(config: Config, finished: Sequence[SweepRecord], show: Callable[[str], None]) -> Iterator[SweepRecord]:
    """Yield a record for each cell; finished ones are yielded as they are. `show` gets the current work."""
    yield from finished
    missing = config.cells()[len(finished) :]
    if not missing:
        return
    pretrained = models.minilm(config.weights)
    quality = jax.jit(sentences.agreement(pretrained, texts(config)))
    matrices = sentences.as_matrices(pretrained.params)
    sweep = functools.partial(essential_sparsity.sweep, matrices, quality, where=filters.match(r"^blocks/.*/kernel$"))
    for curve, sparsity, seed in missing:
        show(f"{curve}, sparsity {sparsity:.2f}")
        prune, density = _pruning(curve, sparsity)
        (point,) = sweep(prune=prune, densities=[density], key=jax.random.key(config.seed + seed))
        cosine, same = point.quality
        half_width = diagnostics.interval(cosine.tolist()).half_width
        measured = {"cosine": float(cosine.mean()), "half_width": half_width, "neighbours": float(same.mean())}
        yield SweepRecord(measured, curve, sparsity, seed)


def known(config: Config) -> list[SweepRecord]:
    """Return the records of the first cells of a killed run, up to a torn or damaged one."""
    pairs = zip(whole(config.folder() / "metrics.jsonl"), config.cells(), strict=False)
    return [SweepRecord.parse(line) for line, _ in itertools.takewhile(lambda pair: _is_of(*pair), pairs)]


def texts(config: Config) -> list[str]:
    return sentences.sample(config.text, config.sentences, seed=config.seed)


def _pruning(curve: str, sparsity: float) -> tuple[PruneFn, Density]:
    if curve in CURVES:
        return CURVES[curve], 1 - sparsity
    n, m = map(int, curve.split(":"))
    return loops.prune_by(scope=scopes.groups(m, axis=0)), n / m


def _is_of(line: Line, cell: tuple[str, float, int]) -> bool:
    """Whether this is the whole line of the cell."""
    same = tuple(line.get(name) for name in ("curve", "sparsity", "seed")) == cell
    return same and all(isinstance(line.get(name), float) for name in ("cosine", "half_width", "neighbours"))
