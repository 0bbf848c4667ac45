"""Sparse recurrences: the parts that are pruned, the graphs, a run that resumes, and the claims."""

import json

import jax
import numpy as np
import pytest

from experiments import sparse_rnn
from experiments.claims.record import FAILS, HOLDS, UNDECIDED
from experiments.runs.records import SweepRecord
from experiments.studies.sparse_rnn import graphs
from experiments.studies.sparse_rnn.claims import claims, correlate
from experiments.studies.sparse_rnn.config import Config
from experiments.studies.sparse_rnn.sweep import make_mask
from jaxticket import models
from tests.cheap import check_is_refused

FLAGS = [
    *("--strings", "64", "--validation", "10", "--test", "20", "--longest", "16", "--widths", "4"),
    *("--epochs", "1", "--retrained", "1", "--seeds", "2", "--recurrences", "gru", "--sparsities", "1"),
    *("--graphs", "1", "--graph-epochs", "1", "--most", "10"),
]


def test_a_part_is_pruned_over_all_layers():
    params, _ = models.recurrent(cell="gru", widths=(4, 4), vocabulary=5).init(jax.random.key(0))
    params["layer1"]["input"]["kernel"] = params["layer1"]["input"]["kernel"] * 100
    mask = make_mask(params, "ih", 0.5)
    assert mask["layer1"]["input"]["kernel"].all()
    assert not mask["layer2"]["input"]["kernel"].any()
    kept = {part: sum(m.sum() for m in jax.tree.leaves(make_mask(params, part, 0.75))) for part in ("ih", "hh", "both")}
    assert kept == {"ih": 24, "hh": 24, "both": 48}
    assert make_mask(params, "hh", 0.75)["layer1"]["input"]["kernel"] is None


def test_properties_of_a_path():
    networkx = pytest.importorskip("networkx")
    measured = graphs.measure(networkx.path_graph(3), (1, 1, 1))
    assert (measured["nodes"], measured["edges"], measured["layers"], measured["diameter"]) == (3, 2, 3, 2)
    assert measured["density"] == pytest.approx(1 / 3)  # as the author has it: edges over ordered pairs
    assert measured["average_shortest_path"] == pytest.approx(4 / 3)
    assert measured["nodes_betweenness_mean"] == pytest.approx(1 / 3)
    assert set(measured) == set(graphs.PROPERTIES)


def test_graphs_are_connected_and_repeatable():
    networkx = pytest.importorskip("networkx")
    for family, edges in (("watts_strogatz", 20), ("barabasi_albert", 19)):
        graph = graphs.draw(family, 20, 3)
        assert networkx.is_connected(graph)
        assert len(graph.edges) >= edges
        assert set(graph.edges) == set(graphs.draw(family, 20, 3).edges)


@pytest.mark.slow
def test_the_run_resumes_and_reports(tmp_path, capsys):
    pytest.importorskip("networkx")
    command = [*FLAGS, "--out", str(tmp_path)]
    assert sparse_rnn.main(command) == 0
    assert "Properties of 2 random graphs" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    curves = ["gru dense", "gru both", "gru ih", "gru hh"]
    families = ["tanh watts_strogatz", "tanh barabasi_albert"]
    assert [r["curve"] for r in records] == [c for c in curves for _ in range(2)] + families
    for name in ("report.html", "table.txt", "results.json", "accuracy.png", "claims.json"):
        assert (folder / name).stat().st_size > 0
    (folder / "metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:20])
    assert sparse_rnn.main(command) == 0
    resumed = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert resumed[:5] == lines[:5]
    assert [json.loads(line)["test_accuracy"] for line in resumed] == [r["test_accuracy"] for r in records]


def test_claims():
    config = Config(recurrences=("lstm",), graphs=2)
    values = {  # curve and sparsity: accuracy before and after retraining
        ("lstm dense", 0.0): (0.99, 0.99),
        ("lstm both", 0.6): (0.9, 0.985),
        ("lstm both", 1.0): (0.5, 0.7),
        ("lstm hh", 1.0): (0.5, 0.97),
        ("lstm hh", 0.8): (0.6, 0.9),
        ("lstm ih", 0.8): (0.8, 0.9),
    }
    records = [
        SweepRecord({"test_accuracy": after + 1e-3 * seed, "before": before - 2e-3 * seed}, curve, sparsity, seed)
        for (curve, sparsity), (before, after) in values.items()
        for seed in range(3)
    ]
    records += [
        SweepRecord({**dict.fromkeys(graphs.PROPERTIES, 1.0), "test_accuracy": 0.9, "nodes": 3.0}, curve, 0.0, 0)
        for curve in ("tanh watts_strogatz", "tanh barabasi_albert")
    ]
    judged = claims(config, records)
    assert [claim.verdict for claim in judged] == [HOLDS, HOLDS, FAILS, FAILS, *[UNDECIDED] * 3]
    assert len({claim.id for claim in judged}) == len(judged)


def test_correlation():
    xs, noise = np.arange(10.0), np.tile([0.01, -0.01], 5)
    measured = [{"nodes": x, "test_accuracy": 0.5 + 0.02 * x + e} for x, e in zip(xs, noise, strict=True)]
    value, low, high = correlate(measured, "nodes")
    assert value == pytest.approx(np.corrcoef(xs, [m["test_accuracy"] for m in measured])[0, 1])
    assert 0.8 < low < value < high < 1
    assert np.isnan(correlate(measured[:3], "nodes").value)


@pytest.mark.parametrize(
    "flags",
    [
        *(["--sparsities", value] for value in ("0", "1.5", "0.5,0.5")),
        *(["--widths", "0"], ["--longest", "14"], ["--seeds", "0"], ["--clip", "0"], ["--graphs", "-1"]),
        *(["--fewest", "5"], ["--most", "9"], ["--limit", "10"], ["--augment", "crop-and-flip"]),
    ],
)
def test_bad_flags(flags, tmp_path, capsys):
    check_is_refused(sparse_rnn.main, flags, tmp_path, capsys)
