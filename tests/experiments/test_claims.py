"""Each experiment's claims are of the right networks, densities and seeds: of records that say what must come out."""

import pytest

from experiments.claims.record import FAILS, HOLDS, UNDECIDED
from experiments.runs.records import CellRecord, DiagramRecord, LevelRecord
from experiments.studies.comparison import claims as comparison
from experiments.studies.essential import claims as essential
from experiments.studies.imp import claims as imp
from experiments.studies.phase_diagram import claims as phase_diagram
from experiments.studies.phase_diagram.lab import Config as PhaseDiagram
from experiments.studies.soups import claims as soups
from experiments.studies.soups.lab import Config as Soups
from experiments.studies.strong import claims as strong
from experiments.studies.strong.search import Config as Strong
from jaxticket import diagnostics
from jaxticket.methods.analysis.essential_sparsity import Knee


def records(*given, seeds=3, **fields):
    """A record for each seed: of a name, with an accuracy in points that differs a little from seed to seed."""
    return [
        {**dict(zip(fields, values, strict=True)), "seed": seed, "test_accuracy": (points + 0.01 * seed) / 100}
        for *values, points in given
        for seed in range(seeds)
    ]


def found(claims):
    """Each claim's paper, difference in whole tenths of a point, and verdict."""
    return [(claim.paper, round(claim.value, 1), claim.verdict) for claim in claims]


def levels(**accuracies):
    """Records of a search at 100, 21, 13.4 and 3.5 %; an accuracy for each level of each branch."""
    densities = dict(enumerate((1.0, 0.2097, 0.1342, 0.0352)))
    rows = [
        (branch, level, densities[level], points)
        for branch, each in accuracies.items()
        for level, points in enumerate(each)
    ]
    return as_levels(records(*rows, branch=..., level=..., density=...))


def as_cells(records):
    """The same, typed, as trainings of methods are."""
    return [CellRecord(r, r["method"], r["density"], r["seed"], r["density"], []) for r in records]


def as_levels(records):
    """The same, typed, as searches by levels make them."""
    known = [{"density": 0.5, **r} for r in records]
    return [LevelRecord(r, r["seed"], r["level"], r["branch"], r["density"], []) for r in known]


IMP = "Frankle & Carbin 2019, iterative magnitude pruning"


def test_search():
    made = imp.of_search(levels(ticket=[90, 91, 92, 89], random_reinit=[90, 88, 0, 0], random_ticket=[0, 0, 0, 85]))
    assert found(made) == [
        (IMP, 2.0, HOLDS),
        (IMP, -1.0, FAILS),
        ("Frankle & Carbin 2019, random reinit", 3.0, HOLDS),
        ("Frankle et al. 2019, random ticket", 4.0, HOLDS),
    ]
    assert made[0].measured.endswith("points at 13.4 %")


def test_a_search_that_went_less_far_tests_less():
    made = imp.of_search([r for r in levels(ticket=[90, 91, 92, 89]) if r.level < 3])
    assert [claim.paper for claim in made] == [IMP]


def test_branches():
    retrained = levels(ticket=[0, 0, 90, 90], retrained=[0, 0, 89.8, 88])
    paper = "Renda et al. 2020, learning-rate rewinding, fine-tuning"
    made = imp.of_branch("retrained", retrained)
    assert found(made) == [(paper, -0.2, HOLDS), (paper, -2.0, FAILS)]
    signs = imp.of_branch("sign_reinit", levels(ticket=[0, 0, 0, 90], sign_reinit=[0, 0, 0, 85]))
    assert found(signs) == [("Zhou et al. 2019, reinit with the same sign; small final", -5.0, FAILS)]
    assert imp.of_branch("dense", retrained) == []


@pytest.mark.parametrize(("reinit", "verdict"), [(0.90, FAILS), (0.95, HOLDS)])
def test_verdicts(reinit, verdict):
    """Counted are the levels at which new weights do clearly worse than the dense network."""
    trivial = diagnostics.verdict([0.98, 0.98], [0.98, 0.98], [0.98, 0.98], [0.9, 0.9], best=0.98)
    matters = diagnostics.verdict([0.98, 0.98], [0.95, 0.95], [reinit] * 2, [0.9, 0.9], best=0.98)
    (claim,) = imp.of_verdicts({1: trivial, 2: matters})
    assert (claim.verdict, claim.seeds) == (verdict, 2)
    assert claim.measured == f"clearly above at {int(verdict == FAILS)} of 1 levels"
    assert imp.of_verdicts({1: trivial}) == []


def test_comparison():
    given = [
        ("dense", 1.0, 95),
        ("random_erk", 0.01, 80),
        ("rigl", 0.01, 85),
        ("snip", 0.05, 94.8),
        ("random_erk", 0.1, 90),
    ]
    made = comparison.claims(as_cells(records(*given, method=..., density=...)))
    assert found(made) == [
        ("Evci et al. 2020, RigL", 5.0, HOLDS),
        ("Lee et al. 2019, SNIP", -0.2, HOLDS),
        ("Liu et al. 2022, random pruning (ERK)", -5.0, FAILS),
    ]


def test_soups():
    config = Soups(densities=(0.05,), phases=2)
    given = [("soup", 0, 0), ("soup", 1, 95), ("mean_member", 1, 94), ("imp_as_long", 1, 96)]
    made = soups.claims(config, as_levels(records(*given, branch=..., level=...)))
    paper = "Zimmer et al. 2024, sparse model soups"
    assert found(made) == [(paper, 1.0, HOLDS), (paper, -1.0, FAILS)]


def test_strong_tickets():
    given = [
        *(("edge_popup", 0.5, 16, 80), ("edge_popup", 0.5, 100, 90), ("edge_popup", 0.2, 100, 85)),
        *(("dense", 1.0, 16, 85.2), ("dense", 1.0, 100, 95), ("biprop", 0.5, 100, 94)),
    ]
    made = strong.claims(Strong(), as_cells(records(*given, method=..., density=..., width=...)))
    edge_popup = "Ramanujan et al. 2020, edge-popup"
    biprop = ("Diffenderfer & Kailkhura 2021, Biprop", -1.0, FAILS)
    assert found(made) == [(edge_popup, 10.0, HOLDS), (edge_popup, -0.2, HOLDS), biprop]
    only = strong.claims(Strong(widths=(100,)), as_cells(records(*given, method=..., density=..., width=...)))
    assert found(only) == [biprop]


def test_phase_diagram():
    config = PhaseDiagram(temperatures=(1, 16), densities=(0.5, 0.01))
    given = [(1, 0.5, 95), (16, 0.5, 94), (1, 0.01, 60), (16, 0.01, 70)]
    typed = [*map(DiagramRecord.parse, records(*given, temperature=..., density=...))]
    of = lambda *regimes: found(phase_diagram.claims(config, typed, list(regimes)))
    paper = "Zhou et al. 2023, three regimes"
    hot, cold = (paper, 1.0, HOLDS), (paper, 10.0, HOLDS)
    assert of("I", "II-A", "II-B", "–") == [(paper, 3, HOLDS), hot, cold]
    assert of("II-B", "II-B", "–", "–") == [(paper, 1, FAILS), hot, cold]


def test_essential_sparsity():
    curve = [(0.0, 1.0, 0.0, 1.0), (0.1, 0.995, 0.001, 1.0), (0.3, 0.98, 0.02, 1.0), (0.5, 0.5, 0.1, 0.5)]
    early, sharp, bend = essential.claims({"global": curve}, Knee(0.1, 0.8), texts=200)
    assert [claim.verdict for claim in (early, sharp, bend)] == [HOLDS, UNDECIDED, FAILS]
    assert (early.value, early.half_width, bend.value) == (0.995, 0.001, 80.0)
