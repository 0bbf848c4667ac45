"""What data pruning found: accuracies by row, the turn from easy to hard, how far scores can be trusted, claims."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import _evidence, _report
from experiments._data_pruning import ALL, RANDOM, Config, Study
from experiments._evidence import Claim
from jaxticket import diagnostics

_PAPERS = {
    "forgetting": "Toneva et al. 2019, forgetting events",
    "prototypes": "Sorscher et al. 2022, beyond neural scaling laws",
    "mean_margin": "Pleiss et al. 2020, area under the margin",
}
_DATA_DIET = "Paul et al. 2021, Data Diet"
_SCALING = "Sorscher et al. 2022, beyond neural scaling laws"
_DISTILLED = "Ben-Baruch et al. 2024, distilling the knowledge in data pruning"


class Trust(NamedTuple):
    """How far a score can be trusted; NaN where there is nothing to compare."""

    replicates: float  # Spearman's correlation of the scores of two networks, the mean over all pairs
    halves: float  # the same of the means over half the networks each
    transfer: float  # the same of the means over networks of the trained kind and of the one that scores
    precision: diagnostics.Interval  # average precision at finding changed labels, over networks
    averaged: float  # the same of the score averaged over networks


def summarise(records: Sequence[_report.Record]) -> list[dict[str, Any]]:
    """One row for each subset: accuracies with intervals over seeds, and what the subset holds, on average."""
    rows = []
    for (size, name, fraction), group in itertools.groupby(records, lambda r: (r["size"], r["name"], r["fraction"])):
        members = list(group)
        held = ("rarest_class", "commonest_class", "class_entropy", "changed_labels")
        rows.append(
            {
                "size": size,
                "name": name,
                "fraction": fraction,
                "examples": members[0]["examples"],
                **{part: statistics.fmean(m[part] for m in members) for part in held},
                **_report.accuracies(members),
            }
        )
    return rows


def by_seed(records: Sequence[_report.Record], **wanted: Any) -> dict[int, float]:
    """Test accuracy by seed of the trainings that have these values."""
    alike = [r for r in records if all(r[name] == value for name, value in wanted.items())]
    return {r["seed"]: r["test_accuracy"] for r in alike}


class Lead(NamedTuple):
    """By how many points hard first is ahead of easy first at a fraction: the mean over seeds, half its interval."""

    fraction: float
    mean: float
    half_width: float


def leads(config: Config, records: Sequence[_report.Record], size: int, score: str) -> list[Lead]:
    """From the smallest fraction to the largest, of subsets that no teacher teaches."""
    of = lambda order, f: by_seed(records, size=size, score=score, order=order, taught=False, fraction=f)
    differences = {f: _evidence.points(of("hard", f), of("easy", f)) for f in sorted(config.fractions)}
    return [Lead(f, *diagnostics.interval(each)) for f, each in differences.items()]


def turn(found: Sequence[Lead]) -> float | None:
    """The fraction from which on hard first stays ahead, where the line that joins the leads of two fractions says 0.

    0 if it is ahead at all fractions, None if it is not at the largest.

    >>> turn([Lead(0.1, -3.0, 0.0), Lead(0.3, -1.0, 0.0), Lead(0.5, 1.0, 0.0)])
    0.4
    """
    if not found[-1].mean > 0:
        return None
    behind = [at for at, each in enumerate(found) if not each.mean > 0]
    if not behind:
        return 0.0
    (f, before, _), (g, after, _) = found[behind[-1] : behind[-1] + 2]
    return round(f + (g - f) * before / (before - after), 6)


def turns(config: Config, records: Sequence[_report.Record], studies: Sequence[Study]) -> dict[str, dict[str, Any]]:
    """For each score and size: the fraction at which hard first overtakes easy first, and the lead at each fraction."""
    if not {"hard", "easy"} <= {*config.kept()}:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for score, study in itertools.product(config.scored(), studies):
        each = leads(config, records, study.size, score)
        found.setdefault(score, {})[str(len(study.labels))] = {
            "fraction": turn(each),
            "leads": [lead._asdict() for lead in each],
        }
    return found


def told(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The turns in words, a line each."""
    lines = []
    for score, sizes in found.items():
        for there, values in sizes.items():
            fraction, of = values["fraction"], f"of {int(there):,} examples, {_report.plain(score)}: hard first"
            where = "is not ahead of easy first at the largest fraction" if fraction is None else "is ahead everywhere"
            if fraction:
                where = f"overtakes easy first at {100 * fraction:.0f} % ({round(fraction * int(there)):,} examples)"
            shown = "  ".join(
                "{fraction:.0%}: {mean:+.2f} ± {half_width:.2f}".format(**lead) for lead in values["leads"]
            )
            lines.append(f"{of} {where}; its lead in points  {shown.replace(' ± nan', '')}\n")
    return "".join(lines)


def trust(study: Study, scores: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray] | None) -> dict[str, Trust]:
    """Of each score, (replicates, examples); `own` are those of the trained network, where another one scores."""
    from sklearn.metrics import average_precision_score

    found = {}
    for name, values in scores.items():
        precision, averaged = diagnostics.Interval(np.nan, np.nan), np.nan
        if study.changed.any():
            each = [float(average_precision_score(study.changed, one)) for one in values]
            precision = diagnostics.interval(each)
            averaged = float(average_precision_score(study.changed, values.mean(0)))
        pairs = [spearman(a, b) for a, b in itertools.combinations(values, 2)]
        half = len(values) // 2
        found[name] = Trust(
            statistics.fmean(pairs) if pairs else np.nan,
            spearman(values[:half].mean(0), values[half:].mean(0)) if half else np.nan,
            spearman(own[name].mean(0), values.mean(0)) if own else np.nan,
            precision,
            averaged,
        )
    return found


def as_json(trusted: Mapping[str, Trust]) -> dict[str, dict[str, Any]]:
    """What is known of each score, in numbers."""
    return {name: {**t._asdict(), "precision": t.precision._asdict()} for name, t in trusted.items()}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of ranks."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def claims(
    config: Config, records: Sequence[_report.Record], study: Study, scores: Mapping[str, np.ndarray]
) -> list[Claim]:
    """What papers say of pruned data, held against this run on the examples of one study."""
    of = lambda **wanted: by_seed(records, **{"size": study.size, "taught": False, "order": "", **wanted})
    least, most = min(config.fractions), max(config.fractions)
    everything, control = of(score=ALL), of(score=RANDOM, fraction=most)
    noise = f" with {100 * config.label_noise:g} % wrong labels" if config.label_noise else ""
    on = f"{config.model} on {len(study.labels):,} examples of {config.data}{noise}"
    made = []

    def compare(paper: str, claim: str, expected: str, better: Any, worse: Any, *, at_least: float = 0.0) -> None:
        differences = _evidence.points(better, worse)
        if differences:
            finding = _evidence.above(differences, least=at_least)
            made.append(Claim(paper, f"{claim} ({on})", expected, **finding._asdict()))

    for score in config.scored():
        paper, name = _PAPERS.get(score, _DATA_DIET), _report.plain(score)
        hard = lambda f, score=score: of(score=score, order="hard", fraction=f)
        if most < 1:
            claim = f"The hardest {100 * most:g} % by {name} train better than a random {100 * most:g} %"
            compare(paper, claim, "above random at mild pruning (CIFAR-10, ResNet-18)", hard(most), control)
        claim = f"Of {100 * least:g} % of the data, the easiest by {name} train better than the hardest"
        easy = of(score=score, order="easy", fraction=least)
        compare(_SCALING, claim, "easy examples where data are scarce (theory, CIFAR-10)", easy, hard(least))
        claim = f"Half of the data by {name} train as well as all, within half a point"
        half = hard(0.5) if score in ("el2n", "grand") else {}
        compare(paper, claim, "50 % of CIFAR-10 pruned without loss", half, everything, at_least=-0.5)
        claim = (
            f"Without the {100 * config.skip:g} % hardest of all, the hardest {100 * most:g} % by {name} train better"
        )
        middle = of(score=score, order="middle", fraction=most)
        compare(_DATA_DIET, claim, "an offset helps where labels are wrong", middle, hard(most))
    for score in config.distil:
        for order in config.kept() if score != RANDOM else ("",):
            kept = {"score": score, "order": order, "fraction": least}
            chosen = (
                f"{100 * least:g} % of the data, {' '.join(part for part in (_report.plain(score), order) if part)}"
            )
            claim = f"A teacher trained on all data makes students of {chosen}, better"
            compare(
                _DISTILLED, claim, "gains at every fraction (CIFAR-100, ImageNet)", of(**kept, taught=True), of(**kept)
            )
    return made + _detections(config, study, scores, on)


def _detections(config: Config, study: Study, scores: Mapping[str, np.ndarray], on: str) -> list[Claim]:
    if not study.changed.any():
        return []
    from sklearn.metrics import average_precision_score

    made, chance = [], study.changed.mean()
    for score, values in scores.items():
        above = [100 * (float(average_precision_score(study.changed, one)) - chance) for one in values]
        finding = _evidence.above(above, unit="points of average precision above chance")
        claim = f"{_report.plain(score)} finds wrong labels better than chance ({on})"
        paper = _PAPERS.get(score, _DATA_DIET)
        made.append(Claim(paper, claim, "wrong labels are among the highest scores", **finding._asdict()))
    return made
