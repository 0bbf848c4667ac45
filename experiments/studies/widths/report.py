"""The report of a run, and its claims: the budget is met, and found widths are better than uniform ones."""

from collections.abc import Sequence

from experiments.claims import sizes
from experiments.claims.judge import Contest, Finding, by_seed
from experiments.claims.record import FAILS, HOLDS, Claim
from experiments.runs.records import SweepRecord
from experiments.studies.widths.config import BUDGET, Config

_PRECROP = "MobileNetV2 on ImageNet: up to +2.7 points over other pruning before training"
_PAPERS = {  # method -> its paper, what it finds, and the paper's numbers for the budget and for uniform widths
    "precrop": ("PreCropping 2022, PreCrop and PreConfig", "that PreCrop computes", "–", _PRECROP),
    "precrop_synflow": (
        "PreCropping 2022, PreCrop and PreConfig",
        "that PreCrop takes from SynFlow's densities",
        "–",
        _PRECROP,
    ),
    "tas": (
        "Dong and Yang 2019, TAS",
        "that TAS searches",
        "up to 5 % of the whole network's FLOPs below the budget are accepted",
        "ResNet-110 on CIFAR-10: 94.33 % with 53 % fewer FLOPs",
    ),
    "supertickets": (
        "You et al. 2022, SuperTickets",
        "that SuperTickets leaves",
        "–",
        "supernets on ImageNet and 3 others: better than found and then pruned networks at equal FLOPs",
    ),
}


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot and the page."""
    sizes.write(
        config,
        records,
        claims(config, records),
        measure="test_accuracy",
        label="test accuracy (%)",
        title=f"{config.setting}: widths within a budget of multiply-adds",
        heading="Widths",
        note="the whole network teaches the others; the time of a search is over that of its training",
        times="time of",
    )


def claims(config: Config, records: Sequence[SweepRecord]) -> list[Claim]:
    """Return the claims of each budget."""
    judged = []
    for fraction in sorted(config.fractions):
        own = {m: [r for r in records if (r.curve, r.sparsity) == (m, 1 - fraction)] for m in config.methods}
        share = f"At {100 * fraction:g} % of the multiply-adds"
        for method in (m for m in config.methods if m in _PAPERS):
            paper, what, budget, expected = _PAPERS[method]
            missed = [100 * abs(r.metrics["macs"] / fraction - 1) for r in own[method]]
            if missed:
                met = f"{share}, widths {what} miss the budget by at most {100 * BUDGET:g} %."
                judged.append(Claim(paper, met, budget, *_at_most(missed, 100 * BUDGET)))
            better = f"{share}, widths {what} are better than uniform ones."
            ours, theirs = by_seed(own[method]), by_seed(own.get("uniform", []))
            judged += Contest(paper, better, expected, method, "uniform", fraction).judged(ours, theirs)
    return judged


def _at_most(misses: Sequence[float], most: float) -> Finding:
    """Judge a bound that every network must keep: the worst of them decides, not the mean."""
    worst = max(misses)
    why = f"the worst of {len(misses)} networks misses it by {worst:.2f} %"
    return Finding(f"{worst:.2f} % at worst", worst, None, len(misses), HOLDS if worst <= most else FAILS, why)
