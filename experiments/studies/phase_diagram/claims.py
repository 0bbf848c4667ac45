"""The claims about temperatures and regimes."""

from collections.abc import Sequence

from experiments.claims.judge import Contest, by_seed
from experiments.claims.record import FAILS, HOLDS, Claim
from experiments.runs.records import DiagramRecord
from experiments.studies.phase_diagram.lab import Config
from jaxticket.methods.analysis.three_regimes import Regime

_PAPER = "Zhou et al. 2023, three regimes"


def claims(config: Config, records: Sequence[DiagramRecord], regimes: Sequence[str]) -> list[Claim]:
    """Return the claims of Zhou et al. (2023) about temperatures, from the records and the regime of each cell."""
    seen = sorted(set(regimes) & {kind.value for kind in Regime})
    judged = [
        Claim(
            _PAPER,
            "Over temperatures and densities, retrainings of a pruned network show three regimes.",
            f"{len(Regime)}, ResNets and VGG on CIFAR and SVHN",
            f"{len(seen)} ({', '.join(seen)})",
            len(seen),
            None,
            config.seeds,
            HOLDS if len(seen) == len(Regime) else FAILS,
            f"of {len(regimes)} cells, each by the means of its seeds",
        )
    ]
    # More epochs, and larger batches, are colder.
    hot, cold = min(config.temperatures), max(config.temperatures)
    for density, better, worse in ((max(config.densities), hot, cold), (min(config.densities), cold, hot)):
        warmth = "hotter" if better == hot else "colder"
        claim = f"At {100 * density:g} % of the weights a {warmth} dense training makes a more accurate pruned network."
        expected = "a sharp transition: heat helps or harms, as the density says (no single number)"
        first, second = (by_seed(records, density=density, temperature=t) for t in (better, worse))
        judged += Contest(_PAPER, claim, expected, str(better), str(worse), density).judged(first, second)
    return judged
