"""The claims about strong tickets: edge-popup by width, and all others in the widest network."""

from collections.abc import Sequence

from experiments.claims.judge import Contest, by_seed
from experiments.claims.record import Claim
from experiments.runs.records import CellRecord
from experiments.studies.strong.search import Config
from experiments.training.kinds import DENSE

_EDGE_POPUP = "Ramanujan et al. 2020, edge-popup"

# Of the widest network, at the density named; the dense network is the same one, trained.
_CONTESTS = (
    Contest(
        "Diffenderfer & Kailkhura 2021, Biprop",
        "Half of the untrained weights, made binary by Biprop, match the trained dense network to half a point.",
        "94.66 %, ResNet-18 on CIFAR-10 with 20 % of the weights",
        "biprop",
        DENSE,
        0.5,
        -0.5,
    ),
    Contest(
        "Koster et al. 2022, signed supermask",
        "Signs alone, of 10 % of the weights at first, match the trained dense network to half a point.",
        "97.48 against 97.42 %, fully connected on MNIST with 3.77 % of the weights",
        "signed_supermask",
        DENSE,
        0.1,
        -0.5,
    ),
    Contest(
        "Gorbett & Whitley 2023, weight recycling",
        "At 10 % of the weights recycling makes edge-popup more accurate.",
        "more accurate in networks of half the width",
        "edge_popup+recycling",
        "edge_popup",
        0.1,
    ),
    Contest(
        "Chijiwa et al. 2021, IteRand",
        "At 10 % of the weights drawing the others anew makes edge-popup more accurate.",
        "as accurate in a narrower network",
        "edge_popup+iterand",
        "edge_popup",
        0.1,
    ),
)

_WIDER = Contest(
    _EDGE_POPUP,
    "Half of the untrained weights are more accurate in a wider network.",
    "rising with width, on CIFAR-10 and ImageNet (curves)",
    "edge_popup",
    "edge_popup",
    0.5,
)

_AS_MANY = Contest(
    _EDGE_POPUP,
    "Some untrained weights of a wide network match a narrow trained network of as many weights to half a point.",
    "30 % of an untrained Wide ResNet-50 match a trained ResNet-34 on ImageNet",
    "edge_popup",
    DENSE,
    0.2,
    -0.5,
)


def claims(config: Config, records: Sequence[CellRecord]) -> list[Claim]:
    """Return the claims about edge-popup by width, and about all others in the widest network."""
    narrow, wide = min(config.widths), max(config.widths)

    def accuracies(method: str, density: float, width: int) -> dict[int, float]:
        density = 1.0 if method == DENSE else density
        return by_seed(records, method=method, density=density, width=width)

    judged = []
    if narrow < wide:
        for contest in (_WIDER, _AS_MANY):
            first = accuracies(contest.above, contest.density, wide)
            judged += contest.judged(first, accuracies(contest.below, contest.density, narrow))
    for contest in _CONTESTS:
        first = accuracies(contest.above, contest.density, wide)
        judged += contest.judged(first, accuracies(contest.below, contest.density, wide))
    return judged
