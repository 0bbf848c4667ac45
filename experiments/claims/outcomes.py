"""The outcomes by which verdicts are shown. Stored files keep the three verdicts of `record`."""

import collections
import re
from collections.abc import Iterable
from typing import NamedTuple

from experiments.claims.record import FAILS, HOLDS, UNDECIDED, Claim, Evidence


class Outcome(NamedTuple):
    """A verdict as readers see it.

    Attributes:
      kind: the class of CSS.
      sign: stands beside the words and the colours.
      words: the verdict in words.
    """

    kind: str
    sign: str
    words: str


_HOLDS = Outcome("holds", "✓", "holds")
_FAILS = Outcome("fails", "✗", "fails")
_SMALL = Outcome("not-reproduced", "✗", "not reproduced at this size")
_INCONCLUSIVE = Outcome("inconclusive", "?", "inconclusive")
OUTCOMES = (_HOLDS, _FAILS, _SMALL, _INCONCLUSIVE)


def outcome(run: Evidence, claim: Claim) -> Outcome:
    """Return how the verdict of a claim is shown.

    Args:
      run: the run that tested the claim, whose setting is "network on data".
      claim: the claim.

    Returns:
      The outcome. A failed claim is "not reproduced at this size" unless the run has the paper's own setting.
    """
    if claim.verdict == FAILS:
        return _FAILS if _has_own_setting(run, claim) else _SMALL
    return {HOLDS: _HOLDS, UNDECIDED: _INCONCLUSIVE}[claim.verdict]


def tally(run_claims: Iterable[tuple[Evidence, Claim]]) -> dict[Outcome, int]:
    """Count the outcomes of claims, in the order of `OUTCOMES`."""
    counts = collections.Counter(outcome(run, claim) for run, claim in run_claims)
    return {shown: counts[shown] for shown in OUTCOMES}


def _has_own_setting(run: Evidence, claim: Claim) -> bool:
    """Whether `expected` names the network and the data of the run, as in "94.7 %, ResNet-20 on CIFAR-10".

    No field says so, and the words decide: a part of a data set, such as mnist5k, is never the paper's own.
    """
    own, papers = (re.sub(r"[-_]", "", text.lower()) for text in (run.setting, claim.expected))
    return bool(own) and re.search(rf"\b{re.escape(own)}\b", papers) is not None
