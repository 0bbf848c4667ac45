"""The claims of papers about pruned data, tested by a run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.claims.judge import Finding, above, by_seed, points
from experiments.claims.record import Claim
from experiments.reports import tables
from experiments.runs.records import SubsetRecord
from experiments.studies.data_pruning.config import ALL, RANDOM, Config, Study

_DATA_DIET = "Paul et al. 2021, Data Diet"
_SCALING = "Sorscher et al. 2022, beyond neural scaling laws"
_DISTILLED = "Ben-Baruch et al. 2024, distilling the knowledge in data pruning"
_PAPERS = {  # of scores; of all others the Data Diet
    "forgetting": "Toneva et al. 2019, forgetting events",
    "first_learned": "Toneva et al. 2019, forgetting events",
    "mean_logit_margin": "Pleiss et al. 2020, area under the margin",
    "prototypes": _SCALING,
    "memorisation": "Feldman & Zhang 2020, memorisation and influence",
}


class _Run(NamedTuple):
    """The trainings on the examples of one study."""

    config: Config
    records: Sequence[SubsetRecord]
    study: Study

    def of(self, score: str, order: str = "", *, taught: bool = False, fraction: float) -> dict[int, float]:
        """Return test accuracies by seed; none where no such training was run."""
        wanted = {"score": score, "order": order, "taught": taught, "fraction": fraction, "size": self.study.size}
        return by_seed(self.records, **wanted)

    def claim(
        self, paper: str, claim: str, expected: str, better: Any, worse: Any, *, at_least: float = 0.0
    ) -> Iterator[Claim]:
        """Return the claim that accuracies are above others, if both were trained."""
        if differences := points(better, worse):
            yield self.stated(paper, claim, expected, above(differences, least=at_least))

    def stated(self, paper: str, claim: str, expected: str, finding: Finding) -> Claim:
        config, noise = self.config, ""
        if config.label_noise:
            noise = f" with {100 * config.label_noise:g} % wrong labels"
        on = f"{config.model} on {len(self.study.labels):,} examples of {config.data}{noise}"
        return Claim(paper, f"{claim} ({on})", expected, **finding._asdict())


def claims(
    config: Config, records: Sequence[SubsetRecord], study: Study, scores: Mapping[str, np.ndarray]
) -> list[Claim]:
    """Return the claims that the trainings of one study decide; `scores` are (replicates, examples) each."""
    run = _Run(config, records, study)
    judged = [claim for score in config.scored() for claim in (_offset if config.label_noise else _pruned)(run, score)]
    judged += [claim for score in config.distil for claim in _taught(run, score)]
    return judged + ([*_detections(run, scores)] if study.changed.any() else [])


def _pruned(run: _Run, score: str) -> Iterator[Claim]:
    """Return the claims about clean data."""
    least, most = min(run.config.fractions), max(run.config.fractions)
    paper, name = _PAPERS.get(score, _DATA_DIET), tables.plain(score)
    if most >= 0.5:
        claim = f"The hardest {100 * most:g} % by {name} train better than a random {100 * most:g} %"
        better, control = run.of(score, "hard", fraction=most), run.of(RANDOM, fraction=most)
        yield from run.claim(paper, claim, "above random at mild pruning (CIFAR-10, ResNet-18)", better, control)
    claim = f"Of {100 * least:g} % of the data, the easiest by {name} train better than the hardest"
    easy, hard = (run.of(score, order, fraction=least) for order in ("easy", "hard"))
    yield from run.claim(_SCALING, claim, "easy examples where data are scarce (theory, CIFAR-10)", easy, hard)
    if score in ("el2n", "grand"):
        claim = f"The hardest half of the data by {name} trains as well as all, within half a point"
        half, everything = run.of(score, "hard", fraction=0.5), run.of(ALL, fraction=1.0)
        yield from run.claim(paper, claim, "50 % of CIFAR-10 pruned without loss", half, everything, at_least=-0.5)


def _offset(run: _Run, score: str) -> Iterator[Claim]:
    """Return the claims about data with wrong labels."""
    most, skip = max(run.config.fractions), run.config.skip
    kept = f"the hardest {100 * most:g} % by {tables.plain(score)}"
    claim = f"Skipping the {100 * skip:g} % hardest of all, {kept} train better than without an offset"
    middle, hard = (run.of(score, order, fraction=most) for order in ("middle", "hard"))
    yield from run.claim(_DATA_DIET, claim, "an offset helps where labels are wrong (CIFAR-10)", middle, hard)


def _taught(run: _Run, score: str) -> Iterator[Claim]:
    """Return the claims about students of a network that was trained on all data."""
    least = min(run.config.fractions)
    for order in run.config.kept() if score != RANDOM else ("",):
        kept = f"{100 * least:g} % of the data ({' '.join(filter(None, (tables.plain(score), order)))})"
        claim = f"Students on {kept} gain by a teacher that was trained on all of them"
        taught, alone = (run.of(score, order, taught=taught, fraction=least) for taught in (True, False))
        yield from run.claim(_DISTILLED, claim, "gains at every fraction (CIFAR-100, ImageNet)", taught, alone)


def _detections(run: _Run, scores: Mapping[str, np.ndarray]) -> Iterator[Claim]:
    """Return the claims about scores of single networks, which detect the labels that were changed."""
    from sklearn.metrics import average_precision_score

    changed = run.study.changed
    for score, values in scores.items():
        if score == "prototypes":  # which sees no labels: a control, and nobody's claim
            continue
        leads = [100 * (float(average_precision_score(changed, row)) - changed.mean()) for row in values]
        finding = above(leads, unit="points of average precision above chance")
        claim, paper = f"{tables.plain(score)} finds wrong labels better than chance", _PAPERS.get(score, _DATA_DIET)
        yield run.stated(paper, claim, "wrong labels are among the highest scores", finding)
