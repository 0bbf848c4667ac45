"""The claims about sparse model soups."""

from collections.abc import Sequence

from experiments.claims.judge import Contest, by_replicate
from experiments.claims.record import Claim
from experiments.runs.records import LevelRecord
from experiments.studies.soups.lab import Config
from jaxticket.loops import soups

_PAPER = "Zimmer et al. 2024, sparse model soups"
_GAIN = "about a point or more at high sparsity, CIFAR-100 and ImageNet"


def claims(config: Config, records: Sequence[LevelRecord]) -> list[Claim]:
    """Return the claims of Zimmer et al. (2024) about soups, at the end of each search."""
    judged = []
    for end in sorted(config.densities, reverse=True):
        level = config.levels().index((soups.phases(end, config.phases)[-1], end))
        of = lambda branch, level=level: by_replicate(records, branch=branch, level=level)
        for other, name in (
            ("mean_member", "the mean of its members"),
            ("imp_as_long", "one network retrained as long as all members"),
        ):
            claim = f"At {100 * end:g} % of the weights a soup is more accurate than {name}."
            judged += Contest(_PAPER, claim, _GAIN, "soup", other, end).judged(of("soup"), of(other))
    return judged
