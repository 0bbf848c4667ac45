"""The report of a run, and its claims: sparse branches are as good as dense large kernels, which beat small ones."""

from collections.abc import Sequence

from experiments.claims import sizes
from experiments.claims.judge import Contest, by_seed
from experiments.claims.record import Claim
from experiments.runs.records import SweepRecord
from experiments.studies.slak.config import Config

_PAPER = "Liu et al. 2023, SLaK"
_CLAIMS = (  # the method, the control, points by which it must be above, the sentence, and the paper's numbers
    (
        "slak",
        "full",
        -0.5,
        "Sparse branches that regrow in a wider network lose at most half a point against full kernels.",
        "ImageNet, 120 epochs: 51 × 51 as branches 81.6, 31 × 31 81.5",
    ),
    (
        "slak",
        "small",
        0.0,
        "Sparse branches that regrow in a wider network are better than 7 × 7 kernels.",
        "ImageNet: SLaK-T 82.5, ConvNeXt-T 82.1",
    ),
    ("decomposed", "full", -0.5, "Dense branches lose at most half a point against full kernels.", "–"),
    ("slak", "fixed", 0.0, "Branches that regrow are better than fixed random ones in the same ratios.", "–"),
)


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot and the page."""
    sizes.write(
        config,
        records,
        claims(config, records),
        measure="test_accuracy",
        label="test accuracy (%)",
        title=f"{config.setting}: large kernels in branches",
        heading="Large kernels",
        note=f"slak and fixed keep {config.density:.0%} of their weights; "
        f"sizes, and times of a batch of {config.batch_size}, over full kernels",
        times="time of",
    )


def claims(config: Config, records: Sequence[SweepRecord]) -> list[Claim]:
    """Return the claims of the methods that the run has."""
    judged = []
    for method, control, least, claim, expected in _CLAIMS:
        first, second = by_seed(records, curve=method), by_seed(records, curve=control)
        judged += Contest(_PAPER, claim, expected, method, control, config.density, least).judged(first, second)
    return judged
