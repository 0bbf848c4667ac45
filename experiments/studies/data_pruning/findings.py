"""The results of data pruning: accuracies of subsets, the turn from easy to hard, the trustworthiness of scores."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.claims.judge import by_seed, points
from experiments.reports import tables
from experiments.runs.records import SubsetRecord
from experiments.studies.data_pruning.config import Config, Study
from jaxticket import diagnostics


class Trust(NamedTuple):
    """The trustworthiness of a score; NaN where there is nothing to compare."""

    replicates: float  # Spearman's correlation of the scores of two replicates, the mean over all pairs
    halves: float  # the same of the means over half of them each; of three, over one and over two
    transfer: float  # the same of the means over networks of the trained kind and of the one that scores
    precision: diagnostics.Interval  # average precision at finding changed labels, over networks
    averaged: float  # the same of the score averaged over networks


def summarise(records: Sequence[SubsetRecord]) -> list[dict[str, Any]]:
    """Return a row for each subset: accuracies with intervals over seeds, and its mean composition."""
    rows = []
    for (size, name, fraction), group in itertools.groupby(records, lambda r: (r.size, r.name, r.fraction)):
        members = list(group)
        held = ("rarest_class", "commonest_class", "class_entropy", "changed_labels")
        rows.append(
            {
                "size": size,
                "name": name,
                "fraction": fraction,
                "examples": members[0].examples,
                **{part: statistics.fmean(m.metrics[part] for m in members) for part in held},
                **tables.accuracies(members),
            }
        )
    return rows


class Lead(NamedTuple):
    """The lead of hard first over easy first at a fraction, in points: the mean over seeds, half its interval."""

    fraction: float
    mean: float
    half_width: float


def leads(config: Config, records: Sequence[SubsetRecord], size: int, score: str) -> list[Lead]:
    """Return the leads from the smallest fraction to the largest, of subsets without a teacher."""
    of = lambda order, f: by_seed(records, size=size, score=score, order=order, taught=False, fraction=f)
    differences = {f: points(of("hard", f), of("easy", f)) for f in sorted(config.fractions)}
    return [Lead(f, *diagnostics.interval(each)) for f, each in differences.items()]


def turn(leads: Sequence[Lead]) -> float | None:
    """Return the fraction from which hard first stays ahead, by linear interpolation between fractions.

    It is 0 if hard first is ahead at all fractions, and None if it is not ahead at the largest.

    >>> turn([Lead(0.1, -3.0, 0.0), Lead(0.3, -1.0, 0.0), Lead(0.5, 1.0, 0.0)])
    0.4
    """
    if not leads[-1].mean > 0:
        return None
    behind = [at for at, lead in enumerate(leads) if not lead.mean > 0]
    if not behind:
        return 0.0
    (f, before, _), (g, after, _) = leads[behind[-1] : behind[-1] + 2]
    return round(f + (g - f) * before / (before - after), 6)


def turns(config: Config, records: Sequence[SubsetRecord], studies: Sequence[Study]) -> dict[str, dict[str, Any]]:
    """Return for each score and size the fraction at which hard first overtakes easy first, and all leads."""
    if not {"hard", "easy"} <= {*config.kept()}:
        return {}
    by_score: dict[str, dict[str, Any]] = {}
    for score, study in itertools.product(config.scored(), studies):
        ahead = leads(config, records, study.size, score)
        by_score.setdefault(score, {})[str(len(study.labels))] = {
            "fraction": turn(ahead),
            "leads": [lead._asdict() for lead in ahead],
        }
    return by_score


def sentences(turns: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the turns in words, a line each."""
    lines = []
    for score, sizes in turns.items():
        for there, values in sizes.items():
            fraction, of = values["fraction"], f"of {int(there):,} examples, {tables.plain(score)}: hard first"
            where = "is not ahead of easy first at the largest fraction" if fraction is None else "is ahead everywhere"
            if fraction:
                where = f"overtakes easy first at {100 * fraction:.0f} % ({round(fraction * int(there)):,} examples)"
            shown = "  ".join(
                "{fraction:.0%}: {mean:+.2f} ± {half_width:.2f}".format(**lead) for lead in values["leads"]
            )
            lines.append(f"{of} {where}; its lead in points  {shown.replace(' ± nan', '')}\n")
    return "".join(lines)


def trust(study: Study, scores: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray] | None) -> dict[str, Trust]:
    """Return the trust of each score, (replicates, examples).

    `own` are the scores of the trained network, if another network scores.
    """
    from sklearn.metrics import average_precision_score

    by_name = {}
    for name, values in scores.items():
        precision, averaged = diagnostics.Interval(np.nan, np.nan), np.nan
        if study.changed.any():
            precision = diagnostics.interval(average_precision_score(study.changed, row) for row in values)
            averaged = float(average_precision_score(study.changed, values.mean(0)))
        pairs = [spearman(a, b) for a, b in itertools.combinations(values, 2)]
        half = len(values) // 2
        by_name[name] = Trust(
            statistics.fmean(pairs) if pairs else np.nan,
            spearman(values[:half].mean(0), values[half:].mean(0)) if half else np.nan,
            spearman(own[name].mean(0), values.mean(0)) if own else np.nan,
            precision,
            averaged,
        )
    return by_name


def as_json(trusted: Mapping[str, Trust]) -> dict[str, dict[str, Any]]:
    """Return the trust of each score, in numbers."""
    return {name: {**t._asdict(), "precision": t.precision._asdict()} for name, t in trusted.items()}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of ranks."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)
