"""The report of a run, and its claims: layers that go at initialisation cost little."""

from collections.abc import Sequence

from experiments.claims import sizes
from experiments.claims.judge import Contest, by_seed
from experiments.claims.record import Claim
from experiments.runs.records import SweepRecord
from experiments.studies.layers.config import Config

_PAPER = "Jordao et al. 2023, layer tickets"
_DENSE = "ResNet-32 on CIFAR-10: +0.12 to +0.72 points by GraSP, without 1 to 5 of 15 blocks"
_CHANNELS = "ResNet-32 on CIFAR-10, as many filters: −0.79 points by SNIP, −0.11 by GraSP, at one block"
_RANDOM = "not compared at initialisation; random layers of trained networks are a strong baseline there"


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot and the page."""
    sizes.write(
        config,
        records,
        claims(config, records),
        measure="test_accuracy",
        label="test accuracy (%)",
        title=f"{config.setting}: layers or channels removed before training",
        heading="What goes before training",
        note="time of training over dense",
        times="time of",
    )


def claims(config: Config, records: Sequence[SweepRecord]) -> list[Claim]:
    """Return the claims of each number of removed blocks."""
    judged = []
    for count in map(float, sorted(config.removed)):
        of = lambda method, count=count: by_seed(records, curve=method, sparsity=count)
        without = f"Without {count:g} blocks, chosen by"
        for score in ("grasp", "snip"):
            layers, channels = f"layers_{score}", f"channels_{score}"
            name = {"grasp": "GraSP", "snip": "SNIP"}[score]
            dense = by_seed(records, curve="dense")
            no_worse = f"{without} {name} at initialisation, a network loses at most 1 point."
            judged += Contest(_PAPER, no_worse, _DENSE, layers, "dense", count, -1.0).judged(of(layers), dense)
            for other, what, expected in (
                (channels, f"channels by {name} at equal multiply-adds", _CHANNELS),
                ("layers_random", "random ones", _RANDOM),
            ):
                better = f"{without} {name} at initialisation, a network is better than without {what}."
                judged += Contest(_PAPER, better, expected, layers, other, count).judged(of(layers), of(other))
    return judged
