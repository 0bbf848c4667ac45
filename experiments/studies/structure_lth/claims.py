"""The claims that coarse tickets are as accurate as others, and faster."""

from collections.abc import Sequence

from experiments.claims.judge import Contest, above, by_seed
from experiments.claims.record import Claim
from experiments.runs.records import SweepRecord
from experiments.studies.structure_lth.config import Config

_PAPER = "Chen et al. 2022, Structure-LTH"
_NAMES = {"refill": "Refilled channels", "refill_plus": "More refilled channels", "regroup": "Dense blocks"}
_RIVALS = {  # arm, rival, points by which it may be worse -> the words of the claim
    ("refill", "random", -0.3): "are no worse than as many random ones, to 0.3 points",
    ("refill", "dense", -0.5): "match the dense network to half a point",
    ("refill_plus", "dense", -0.5): "match the dense network to half a point",
    ("regroup", "dense", -0.5): "match the dense network to half a point",
    ("regroup", "refill", 0.0): "are more accurate than refilled channels",
}
_EXPECTED = "comparable accuracy at 36 to 80 % sparsity; CIFAR, Tiny-ImageNet and ImageNet"
_FASTER = "up to 60 to 65 % of the running time saved, by CUDA code of dense blocks or by smaller layers"


def claims(config: Config, records: Sequence[SweepRecord]) -> list[Claim]:
    """Return the claims at each sparsity that the search reached."""
    judged = []
    for sparsity in config.sparsities():
        share = f"after a search to {100 * (1 - sparsity):.0f} % of the weights"
        for (arm, rival, least), words in _RIVALS.items():
            ours = by_seed(records, curve=arm, sparsity=sparsity)
            theirs = by_seed(records, curve=rival, sparsity=0.0 if rival == "dense" else sparsity)
            contest = Contest(_PAPER, f"{_NAMES[arm]} {words}, {share}.", _EXPECTED, arm, rival, 1 - sparsity, least)
            judged += contest.judged(ours, theirs)
        for arm in ("refill", "regroup"):
            saved = [100 * (1 - r.metrics["time"]) for r in records if (r.curve, r.sparsity) == (arm, sparsity)]
            if saved:
                claim = f"{_NAMES[arm]} run faster than the dense network, {share}."
                judged.append(Claim(_PAPER, claim, _FASTER, *above(saved, unit="% of the time")))
    return judged
