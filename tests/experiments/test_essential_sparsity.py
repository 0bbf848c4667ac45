"""The command line of the essential-sparsity sweep, on a small encoder in the place of the pretrained one."""

import json

import jax
import numpy as np
import pytest

from experiments import essential_sparsity
from experiments.studies.essential import config, sentences
from experiments.training.texts import sample
from jaxticket import models
from tests.encoder import Small

FLAGS = ["--sentences", "6", "--sparsities", "0,0.5,0.9", "--seeds", "2"]


@pytest.fixture
def small(monkeypatch):
    model = models.bert(vocabulary=20, context=8, layers=1, heads=2, width=16)
    loads = []

    def minilm(folder):
        loads.append(folder)
        return Small(model, model.init(jax.random.key(0))[0], folder)

    monkeypatch.setattr(models, "minilm", minilm)
    monkeypatch.setattr(config, "PATTERNS", ((2, 4),))
    monkeypatch.setattr("experiments.runs.command_line.require_extras", lambda *_: None)
    return loads


@pytest.mark.slow
def test_the_sweep_resumes_and_reports(small, tmp_path, capsys):
    command = [*FLAGS, "--out", str(tmp_path)]
    assert essential_sparsity.main(command) == 0
    text = capsys.readouterr().out
    assert "sharpest bend" in text
    (folder,) = tmp_path.iterdir()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    assert len(records) == 3 + 3 + 6 + 1
    dense = [r for r in records if r["sparsity"] == 0]
    assert len(dense) == 4
    assert all(r["neighbours"] == 1 and abs(r["cosine"] - 1) < 1e-5 for r in dense)
    drawn = [r["cosine"] for r in records if (r["curve"], r["sparsity"]) == ("random", 0.5)]
    assert drawn[0] != drawn[1]
    for name in ("report.html", "table.txt", "results.json", "accuracy.png"):
        assert (folder / name).stat().st_size > 0
    (start,) = json.loads((folder / "environment.json").read_text())
    assert start["devices"]
    # Killed in the middle of a line: the rest is computed again, what was there is not.
    (folder / "metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:20])
    assert essential_sparsity.main([*command, "--dry-run"]) == 0
    assert "13, of which 5 are there" in capsys.readouterr().out
    assert essential_sparsity.main(command) == 0
    assert (folder / "metrics.jsonl").read_text() == "".join(lines)
    assert len(small) == 2
    assert essential_sparsity.main(command) == 0
    assert len(small) == 2, "a finished sweep loads nothing"


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:20] + "\n",
        lambda line: "[]\n",
        lambda line: line.replace('"seed": 0', '"seed": 1'),
        lambda line: line.replace('"cosine": 1.0', '"cosine": null'),
    ],
)
def test_what_is_damaged_is_computed_again(tmp_path, damage):
    asked = essential_sparsity.Config(sparsities=(0.0, 0.5, 0.9), out=tmp_path)
    numbers = {"cosine": 1.0, "half_width": 0.0, "neighbours": 1.0}
    records = [{"curve": c, "sparsity": s, "seed": seed, **numbers} for c, s, seed in asked.cells()[:3]]
    first, second, third = [f"{json.dumps(record)}\n" for record in records]
    asked.folder().mkdir()
    file = asked.folder() / "metrics.jsonl"
    file.write_text(first + second + third)
    assert [record.line() for record in essential_sparsity.Lab(asked).finished] == records
    file.write_text(first + damage(second) + third)
    assert [record.line() for record in essential_sparsity.Lab(asked).finished] == records[:1]


def test_matrices_have_their_inputs_first():
    """Heads are outputs of a query, and inputs of what follows them."""
    model = models.bert(vocabulary=20, context=8, layers=1, heads=2, width=12)
    params = model.init(jax.random.key(0))[0]
    attention = sentences.as_matrices(params)["blocks"]["block1"]["attention"]
    before = params["blocks"]["block1"]["attention"]
    x = np.random.default_rng(0).normal(size=(3, 12))
    np.testing.assert_allclose(
        x @ attention["query"]["kernel"],
        np.einsum("bi,ihd->bhd", x, before["query"]["kernel"]).reshape(3, 12),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        x @ attention["out"]["kernel"],
        np.einsum("bhd,hdo->bo", x.reshape(3, 2, 6), before["out"]["kernel"]),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sparsities", "0.1,0.2,0.3"], "rising from 0"),
        (["--sentences", "1"], "at least 2"),
        (["--sentences", "100000"], "but there are"),
        (["--text", "absent.txt"], "cannot be read"),
    ],
)
def test_bad_flags_are_told_in_one_line(small, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as end:
        essential_sparsity.main([*flags, "--out", str(tmp_path)])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_sentences_are_prose():
    texts = sample(None, 200, seed=0)
    assert len(set(texts)) == 200
    assert all(text[0].isupper() and text.endswith(".") and len(text.split()) > 4 for text in texts)
