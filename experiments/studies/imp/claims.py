"""Claims that a search for tickets tests, and its branches and verdicts."""

from collections.abc import Mapping, Sequence

from experiments.claims.judge import Contest, by_replicate
from experiments.claims.record import FAILS, HOLDS, UNDECIDED, Claim
from experiments.runs.records import LevelRecord
from jaxticket import diagnostics

_MATCHING = -0.5  # points below another network that still match it; Ma et al. (2021) take half a point as well
_HIGH, _LOW = 0.135, 0.036  # parts of LeNet's weights at which Frankle & Carbin quote accuracies
_IMP = "Frankle & Carbin 2019, iterative magnitude pruning"

_SEARCH = (
    Contest(
        _IMP,
        "At 13.5 % of the weights the winning ticket is more accurate than the dense network.",
        "more than 0.3 points, LeNet-300-100 on MNIST",
        "ticket",
        "dense",
        _HIGH,
    ),
    Contest(
        _IMP,
        "At 3.6 % of the weights the winning ticket matches the dense network to half a point.",
        "the same accuracy, LeNet-300-100 on MNIST",
        "ticket",
        "dense",
        _LOW,
        _MATCHING,
    ),
    Contest(
        "Frankle & Carbin 2019, random reinit",
        "At 21 % of the weights the winning ticket is more accurate than its mask over new weights.",
        "half a point, LeNet-300-100 on MNIST",
        "ticket",
        "random_reinit",
        0.21,
    ),
    Contest(
        "Frankle et al. 2019, random ticket",
        "At 3.6 % of the weights the winning ticket is more accurate than the same densities in random places.",
        "more accurate, on ResNet-50 and smaller networks (curves, no single number)",
        "ticket",
        "random_ticket",
        _LOW,
    ),
)
_RENDA = "Renda et al. 2020, learning-rate rewinding, fine-tuning"
_LEARNING_RATE = "as accurate or more, ResNet-56 on CIFAR-10, ResNet-50 on ImageNet, GNMT on WMT16"
_BRANCHES: Mapping[str, tuple[Contest, ...]] = {
    "retrained": (
        Contest(
            _RENDA,
            "At 13.5 % of the weights rewinding only the learning rate is no worse than rewinding the weights, to half "
            "a point.",
            _LEARNING_RATE,
            "retrained",
            "ticket",
            _HIGH,
            _MATCHING,
        ),
        Contest(
            _RENDA,
            "At 3.6 % of the weights rewinding only the learning rate is no worse than rewinding the weights, to half "
            "a point.",
            _LEARNING_RATE,
            "retrained",
            "ticket",
            _LOW,
            _MATCHING,
        ),
    ),
    "sign_reinit": (
        Contest(
            "Zhou et al. 2019, reinit with the same sign; small final",
            "At 3.6 % of the weights new weights of the same signs match the rewound weights to half a point.",
            "about as accurate, fully connected on MNIST and small convolutional networks on CIFAR-10 (curves)",
            "sign_reinit",
            "ticket",
            _LOW,
            _MATCHING,
        ),
    ),
}


def of_search(records: Sequence[LevelRecord]) -> list[Claim]:
    """Return the claims of Frankle & Carbin (2019) and Frankle et al. (2019) about tickets and controls."""
    return _claims(_SEARCH, records)


def of_branch(branch: str, records: Sequence[LevelRecord]) -> list[Claim]:
    """Return the claims about this branch; most have none."""
    return _claims(_BRANCHES.get(branch, ()), records)


def of_verdicts(by_level: Mapping[int, diagnostics.Verdict]) -> list[Claim]:
    """Return the claim of Ma et al. (2021) about tickets and random reinits, counted over levels of clear sparsity."""
    matter = [verdict for verdict in by_level.values() if verdict.sparsity.clear]
    if not matter:
        return []
    clear = sum(verdict.gap.clear for verdict in matter)
    return [
        Claim(
            "Ma et al. 2021, Sanity Checks",
            "At a learning rate that suits the dense network, tickets are not clearly above random reinits.",
            "not above, residual networks on CIFAR-10 at a learning rate of 0.1",
            f"clearly above at {clear} of {len(matter)} levels",
            clear,
            None,
            min(verdict.ticket.n for verdict in matter),
            HOLDS if not clear else FAILS if 2 * clear > len(matter) else UNDECIDED,
            "counted are the levels whose random reinit lies clearly below the dense network",
        )
    ]


def _claims(contests: Sequence[Contest], records: Sequence[LevelRecord]) -> list[Claim]:
    """Return those that the records decide: of levels within a tenth of the density that the paper quotes."""
    judged = []
    for contest in contests:
        nearest = min(records, key=lambda r: abs(r.density - contest.density))
        if abs(nearest.density - contest.density) <= 0.1 * contest.density:
            both = (_accuracies(records, branch, nearest.level) for branch in (contest.above, contest.below))
            judged += contest.judged(*both, unit=f"points at {100 * nearest.density:.1f} %")
    return judged


def _accuracies(records: Sequence[LevelRecord], branch: str, level: int) -> dict[int, float]:
    if branch == "dense":
        branch, level = "ticket", 0
    return by_replicate(records, branch=branch, level=level)
