"""The claims that channels chosen and repaired by data are worth more than others."""

from collections.abc import Sequence

from experiments.claims.judge import above
from experiments.claims.record import Claim
from experiments.runs.records import SweepRecord
from experiments.studies.pretrained.config import CHOICES, Config

_PAPER = "Wang et al. 2024, OBSPA"
_EXPECTED = "more accurate than other choices of channels, without finetuning and with it; ImageNet and others"
_BELOW = {
    "group_magnitude": "channels by group magnitude",
    "random": "random channels",
    "layers": "removing the best whole layers, which save {} multiply-adds",
    "last_layers": "removing the last layers, which save {} multiply-adds",
}


def claims(config: Config, records: Sequence[SweepRecord]) -> list[Claim]:
    """Return a claim for each other choice and each part that is removed."""
    judged = []
    for part in sorted({record.sparsity for record in records if record.curve == "obspa"}):
        ours = _by_seed(records, "obspa", part)
        left = {record.curve: record.metrics["macs"] for record in records if record.sparsity == part}
        for other in CHOICES[config.network][1:]:
            theirs = _by_seed(records, other, part)
            differences = [100 * (mine - theirs.get(seed, theirs[0])) for seed, mine in ours.items()]
            if config.network == "minilm":
                what, unit = "keeps the ranks of similarities of MiniLM's embeddings", "points of rank correlation"
            else:
                what, unit = f"at {100 * (1 - part):g} % of the multiply-adds keeps more of Lite0's classes", "points"
            saved = "fewer" if left[other] > left["obspa"] else "as many" if left[other] == left["obspa"] else "more"
            claim = f"OBSPA {what} better than {_BELOW[other].format(saved)}."
            judged.append(Claim(_PAPER, claim, _EXPECTED, *above(differences, unit=unit)))
    return judged


def _by_seed(records: Sequence[SweepRecord], choice: str, part: float) -> dict[int, float]:
    """Return the likeness of each seed."""
    return {r.seed: r.metrics["alike"] for r in records if (r.curve, r.sparsity) == (choice, part)}
