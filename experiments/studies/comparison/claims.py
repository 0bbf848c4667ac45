"""Claims that a comparison of methods tests: of one method over another, at a density."""

from collections.abc import Sequence

from experiments.claims.judge import Contest, by_seed
from experiments.claims.record import Claim
from experiments.runs.records import CellRecord
from experiments.training.kinds import DENSE

_MATCHING = -0.5  # points below the dense network that still match it


_CONTESTS = (
    Contest(
        "Evci et al. 2020, RigL",
        "At 1 % of the weights RigL is more accurate than a static random mask.",
        "+6.2 points, ResNet-50 on ImageNet with 10 % of the weights (72.0 against 65.8 %)",
        "rigl",
        "random_erk",
        0.01,
    ),
    Contest(
        "Evci et al. 2020, RigL",
        "At 1 % of the weights RigL is more accurate than SET.",
        "+2.4 points, ResNet-50 on ImageNet with 10 % of the weights (72.0 against 69.6 %)",
        "rigl",
        "sparse_evolutionary",
        0.01,
    ),
    Contest(
        "Mocanu et al. 2018, SET",
        "At 1 % of the weights SET is more accurate than a static random mask.",
        "more accurate than a fixed random pattern on every data set",
        "sparse_evolutionary",
        "random_erk",
        0.01,
    ),
    Contest(
        "Lee et al. 2019, SNIP",
        "At 5 % of the weights SNIP matches the dense network to half a point.",
        "errors of 1.6 and 1.7 %, LeNet-300-100 on MNIST",
        "snip",
        DENSE,
        0.05,
        _MATCHING,
    ),
    Contest(
        "Lee et al. 2019, SNIP",
        "At 2 % of the weights SNIP is within 0.7 points of the dense network.",
        "errors of 2.4 and 1.7 %, LeNet-300-100 on MNIST",
        "snip",
        DENSE,
        0.02,
        -0.7,
    ),
    Contest(
        "Frankle et al. 2021, magnitude at initialisation",
        "At 2 % of the weights pruning during the training is more accurate than SNIP before it.",
        "more accurate, ResNet-20 on CIFAR-10 and ResNet-50 on ImageNet (curves, no single number)",
        "gradual",
        "snip",
        0.02,
    ),
    Contest(
        "Liu et al. 2022, random pruning (ERK)",
        "At 10 % of the weights a static random mask with ERK densities matches the dense network to half a point.",
        "the same accuracy, Wide ResNet-50 on ImageNet with 20 % of the weights",
        "random_erk",
        DENSE,
        0.1,
        _MATCHING,
    ),
)


def claims(records: Sequence[CellRecord]) -> list[Claim]:
    """Return the claims about the methods and densities that were compared."""
    judged = []
    for contest in _CONTESTS:
        other = 1.0 if contest.below == DENSE else contest.density
        first = by_seed(records, method=contest.above, density=contest.density)
        judged += contest.judged(first, by_seed(records, method=contest.below, density=other))
    return judged
