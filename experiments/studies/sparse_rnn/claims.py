"""The claims that a run tests: which part may be pruned depends on the kind of recurrence."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
from scipy import stats

from experiments.claims.judge import Finding, above, by_seed, points
from experiments.claims.record import FAILS, HOLDS, UNDECIDED, Claim, Verdict
from experiments.runs.records import SweepRecord
from experiments.studies.sparse_rnn.config import Config, Family

_PAPER = "Darji 2024, sparsity in recurrent networks"
_MOST_HURT = (  # recurrence, the part that hurts less at 80 %, the part that hurts more, the paper's accuracies
    ("tanh", "hh", "ih", "93.7 against 81.4 at 80 %"),
    ("lstm", "hh", "ih", "99.9 against 94.6 at 80 %"),
    ("relu", "ih", "hh", "95.0 against 64.9 at 80 %"),
)
_NAMES = {"ih": "from input to hidden units", "hh": "from hidden to hidden units"}
_LABELS = {"tanh": "tanh", "relu": "ReLU", "gru": "GRU", "lstm": "LSTM"}
_WITHOUT = {"tanh": "53.7", "relu": "51.7", "gru": "97.4 after 1 epoch", "lstm": "98.8 after 1 epoch"}
_CORRELATED = (  # property, sign, the paper's correlations
    ("nodes", 1, ".40 to .44"),
    ("source_nodes", 1, ".35 to .57"),
    ("nodes_betweenness_variance", -1, "−.41 to −.56"),
)


class Correlation(NamedTuple):
    """A coefficient of correlation and its 95 % interval; NaN where a value never varies."""

    value: float
    low: float
    high: float


def correlate(measured: Sequence[Mapping[str, Any]], name: str) -> Correlation:
    """Return the correlation of a property with the accuracy."""
    xs, ys = (np.array([m[key] for m in measured]) for key in (name, "test_accuracy"))
    if len(xs) < 4 or np.ptp(xs) == 0 or np.ptp(ys) == 0:
        return Correlation(math.nan, math.nan, math.nan)
    result = stats.pearsonr(xs, ys)
    return Correlation(float(result.statistic), *map(float, result.confidence_interval(0.95)))


def of_graphs(records: Sequence[SweepRecord], kind: str) -> list[Mapping[str, Any]]:
    """Return what was measured of networks of a kind that are connected like random graphs."""
    curves = [f"{kind} {family}" for family in get_args(Family)]
    return [record.metrics for record in records if record.curve in curves]


def claims(config: Config, records: Sequence[SweepRecord]) -> list[Claim]:
    """Return the claims of the kinds, the parts and the sparsities that the run has."""
    after = lambda kind, part, sparsity: by_seed(records, curve=f"{kind} {part}", sparsity=sparsity)
    judged = []

    def judge(claim: str, expected: str, differences: Sequence[float], least: float = 0.0) -> None:
        if differences:
            judged.append(Claim(_PAPER, claim, expected, *above(differences, least=least)))

    for kind in config.recurrences:
        label, dense = _LABELS[kind], after(kind, "dense", 0.0)
        judge(
            f"A network of {label} layers without 60 % of its recurrent weights is retrained to within 1 point.",
            "after 1 epoch; dense 93.7 (tanh) and 100 (others)",
            points(after(kind, "both", 0.6), dense),
            -1.0,
        )
        without = after(kind, "hh", 1.0)
        recovers = kind in ("gru", "lstm")
        claim = "is" if recovers else "is not"
        judge(
            f"A network of {label} layers without weights {_NAMES['hh']} {claim} retrained to 95 % accuracy.",
            _WITHOUT[kind],
            [100 * (a - 0.95) * (1 if recovers else -1) for a in without.values()],
        )
        for part, what in (("both", "recurrent weight"), ("ih", f"weight {_NAMES['ih']}")):
            judge(
                f"A network of {label} layers without any {what} is not retrained to 60 % accuracy.",
                "49.4 to 50.6",
                [100 * (0.6 - a) for a in after(kind, part, 1.0).values()],
            )
    for (kind, kept, hurt, accuracies), sparsity in itertools.product(
        _MOST_HURT, (s for s in sorted(config.sparsities) if s < 1)
    ):
        at_once = lambda part, kind=kind, sparsity=sparsity: _before(records, f"{kind} {part}", sparsity)
        share = f"{100 * sparsity:g} %"
        judge(
            f"Before retraining, {_LABELS[kind]} layers without {share} of the weights {_NAMES[kept]} are more "
            f"accurate than without {share} of those {_NAMES[hurt]}.",
            accuracies,
            points(at_once(kept), at_once(hurt)),
        )
    for kind in config.connected:
        judged += _of_structure(kind, of_graphs(records, kind))
    return judged


def _before(records: Sequence[SweepRecord], curve: str, sparsity: float) -> dict[int, float]:
    """Return the accuracies before retraining, by seed."""
    own = [record for record in records if (record.curve, record.sparsity) == (curve, sparsity)]
    return {record.seed: record.metrics["before"] for record in own}


def _of_structure(kind: str, measured: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Return the claims on the properties of random graphs."""
    judged = []
    for name, sign, expected in _CORRELATED if measured else ():
        value, low, high = correlate(measured, name)
        words = f"The {name.replace('_', ' ')} of random graphs"
        claim = f"{words} and the accuracy of {_LABELS[kind]} layers connected like them are correlated"
        claim += " positively." if sign > 0 else " negatively."
        judged.append(Claim(_PAPER, claim, expected, *_correlated(value, low, high, sign, len(measured))))
    return judged


def _correlated(value: float, low: float, high: float, sign: int, count: int) -> Finding:
    if math.isnan(value):
        return Finding("–", None, None, count, UNDECIDED, "too few graphs, or a value that never varies")
    least, most = sorted((sign * low, sign * high))
    verdict: Verdict = HOLDS if least > 0 else FAILS if most < 0 else UNDECIDED
    where = {HOLDS: "lies on the side of the claim", FAILS: "lies on the other side", UNDECIDED: "contains 0"}[verdict]
    why = f"the interval over {count} graphs, {low:+.2f} to {high:+.2f}, {where}"
    return Finding(f"{value:+.2f} ({low:+.2f} to {high:+.2f})", value, (high - low) / 2, count, verdict, why)
