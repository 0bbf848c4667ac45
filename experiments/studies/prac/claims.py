"""The claims of the paper about its sets."""

from collections.abc import Sequence

from experiments.claims.judge import Contest, above, by_seed
from experiments.claims.record import Claim
from experiments.runs.records import ArmRecord

_PAPER = "Zhang et al. 2021, PrAC sets"
SAVED = (82.85, 92.77)  # % of the iterations, networks on CIFAR-10
_CONTESTS = (
    Contest(
        _PAPER,
        "A ticket found on PrAC sets matches one found on all examples, to 0.3 points.",
        "equal, networks on CIFAR-10",
        "prac",
        "imp",
        1.0,
        -0.3,
    ),
    Contest(
        _PAPER,
        "A ticket found on PrAC sets is no worse than one found on random sets of their sizes, to 0.3 points.",
        "better, networks on CIFAR-10",
        "prac",
        "random_subset",
        1.0,
        -0.3,
    ),
    Contest(
        _PAPER,
        "A ticket found on PrAC sets is no worse than one found on their hard examples alone, to 0.3 points.",
        "better, networks on CIFAR-10",
        "prac",
        "hard",
        1.0,
        -0.3,
    ),
    Contest(
        _PAPER,
        "A ticket found on PrAC sets is more accurate than the same densities in random places.",
        "more accurate, networks on CIFAR-10",
        "prac",
        "random_mask",
        1.0,
    ),
)


def claims(records: Sequence[ArmRecord]) -> list[Claim]:
    """Return the claims of the paper, tested by the records of all seeds and arms."""
    saved = above([100 * r.saved for r in records if r.branch == "prac"], least=SAVED[0], unit="%")
    words = f"A search on PrAC sets saves more than {SAVED[0]} % of its training iterations."
    judged = [Claim(_PAPER, words, f"{SAVED[0]} to {SAVED[1]} %, networks on CIFAR-10", *saved)]
    for contest in _CONTESTS:
        first, second = (by_seed(records, branch=branch) for branch in (contest.above, contest.below))
        judged += contest.judged(first, second)
    return judged
