"""A language model pruned in one shot: patterns, a run that resumes at a block, the folders, and the claims."""

import json
import types

import jax
import numpy as np
import pytest

from experiments import prune_lm
from experiments.claims.record import FAILS, HOLDS, UNDECIDED
from experiments.runs.records import SweepRecord
from experiments.studies.prune_lm import sweep
from experiments.studies.prune_lm.config import Config, Pattern
from experiments.studies.prune_lm.report import claims
from experiments.training import language
from jaxticket import models
from jaxticket.errors import CheckpointError, InputError
from tests.cheap import check_is_refused

CONFIG = {
    **{"model_type": "llama", "vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 12, "eos_token_id": 0},
    "tie_word_embeddings": True,
}


class Words:
    """A tokenizer: a token for each letter of the alphabet that a word begins with."""

    def encode(self, text):
        return types.SimpleNamespace(ids=[1 + ord(word[0]) - ord("a") for word in text.split()])

    def encode_batch(self, texts):
        return [self.encode(text) for text in texts]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiny decoder beside texts, where a run looks for them."""
    models.new_checkpoint(tmp_path / "model", CONFIG, jax.random.key(0))
    draw = np.random.default_rng(0)
    text = lambda: "\n".join(" ".join(chr(ord("a") + n) for n in draw.integers(26, size=20)) for _ in range(12))
    for name in ("train.txt", "held_out.txt"):
        (tmp_path / name).write_text(text())
    monkeypatch.setattr(sweep.Lab, "tokenizer", Words())
    monkeypatch.setattr("experiments.runs.command_line.require_extras", lambda *_: None)
    return tmp_path


def command(folder, *flags):
    small = ["--sequences", "3", "--evaluated", "40", "--batch-size", "2", "--out", str(folder / "runs")]
    return [str(folder / "model"), *flags, *small]


def test_patterns_and_points():
    config = Config(method=("magnitude", "wanda"), density=(0.3, 0.5), nm=("2:4", "1:4"), seeds=2)
    assert config.patterns == [Pattern(0.5, None), Pattern(0.5, 4), Pattern(0.3, None), Pattern(0.25, 4)]
    cells = config.cells()
    assert cells[:4] == [("dense", 0.0, 0), ("magnitude", 0.5, 0), ("wanda", 0.5, 0), ("wanda", 0.5, 1)]
    assert ("wanda 1:4", 0.75, 1) in cells
    assert [config.pattern(*cell[:2])[0] for cell in cells[1:4]] == ["magnitude", "wanda", "wanda"]
    assert Config().patterns == [Pattern(0.5, None)]
    assert Config(nm=("2:4",)).patterns == [Pattern(0.5, 4)]


@pytest.mark.slow
def test_the_run_resumes_at_a_block_and_writes_folders(folder, capsys, monkeypatch):
    flags = command(folder, "--method", "wanda", "sparsegpt", "--nm", "2:4")
    assert prune_lm.main(flags) == 0
    assert "over dense" in capsys.readouterr().out
    (run,) = (folder / "runs").iterdir()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["curve"] for line in lines] == ["dense", "wanda 2:4", "sparsegpt 2:4"]
    sparse = models.read_checkpoint(run / "wanda-2_4-0.5" / "model").load()["blocks"]["block2"]["mlp"]["output"]
    assert (np.count_nonzero(sparse["kernel"].reshape(3, 4, 8), axis=1) == 2).all()
    assert "block2/mlp/output/kernel,0.5000" in (run / "layers.csv").read_text()

    # Killed in the second block of the last network.
    (run / "metrics.jsonl").write_text("".join(lines[:2]))
    for path in sorted((run / "sparsegpt-2_4-0.5").glob("model/*")):
        path.unlink()
    (run / "sparsegpt-2_4-0.5" / "model").rmdir()
    method, calls = sweep.sparsegpt, []

    def failing(*args, **options):
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return method(*args, **options)

    monkeypatch.setattr(sweep, "sparsegpt", failing)
    with pytest.raises(SystemExit, match="130"):
        prune_lm.main(flags)
    assert not (run / "sparsegpt-2_4-0.5" / "model").exists()
    assert prune_lm.main(flags) == 0
    assert len(calls) == 3  # the first block was kept
    resumed = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert resumed[:2] == lines[:2]
    assert json.loads(resumed[2])["perplexity"] == pytest.approx(json.loads(lines[2])["perplexity"], rel=1e-6)
    assert not list((run / "sparsegpt-2_4-0.5").glob("seed_*"))


def test_the_perplexity_is_that_of_the_whole_network(folder):
    lab = sweep.Lab(Config(model=folder / "model", out=folder, sequences=3, evaluated=40, batch_size=2))
    assert lab.context == 12
    scorer, params = lab.scorer(), lab.checkpoint.load()
    for name in lab.checkpoint.blocks:
        scorer.through(params["blocks"][name])
    logits, _ = lab.checkpoint.model.apply(params, None, lab.rows[:, :-1], train=False, key=None)
    right = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), lab.rows[:, 1:, None], -1)
    assert scorer.perplexity() == pytest.approx(np.exp(-right.mean()), rel=1e-5)


def test_windows():
    words = Words()
    rows = language.windows(words, ["a b c d", "e f g"], 3, end=0, limit=7)
    assert rows.tolist() == [[1, 2, 3, 4], [4, 0, 5, 6]]
    drawn = language.random_windows(words, ["a b", "c d e f g"], 3, number=20, seed=(0, 1))
    assert {tuple(row) for row in drawn.tolist()} <= {(3, 4, 5), (4, 5, 6), (5, 6, 7)}
    assert len({tuple(row) for row in drawn.tolist()}) > 1
    with pytest.raises(InputError, match="--context is 9"):
        language.windows(words, ["a b"], 9, end=None)
    with pytest.raises(InputError, match="hardly any document"):
        language.random_windows(words, ["a b"], 9, number=2, seed=(0,))


def test_claims():
    perplexity = {"magnitude": 20.0, "wanda": 15.0, "sparsegpt": 15.05}
    records = [SweepRecord({"perplexity": 10.0}, "dense", 0.0, 0)]
    for method, mean in perplexity.items():
        for seed in range(1 if method == "magnitude" else 3):
            records.append(SweepRecord({"perplexity": mean + 0.1 * (seed - 1)}, method, 0.5, seed))
    judged = claims(Config(method=("magnitude", "wanda", "sparsegpt"), seeds=3), records)
    assert [claim.verdict for claim in judged] == [HOLDS, HOLDS, FAILS]
    assert judged[0].measured.startswith("+24")
    assert claims(Config(method=("wanda",)), records[:1]) == []
    assert UNDECIDED not in {claim.verdict for claim in judged}


@pytest.mark.parametrize(
    "flags",
    [
        *(["--method", "wanda,wanda"], ["--density", "1.5"], ["--density", "0.5,0.5"], ["--nm", "4:2"], ["--nm", "2"]),
        *(["--sequences", "0"], ["--context", "-1"], ["--seeds", "0"]),
    ],
)
def test_bad_flags(flags, tmp_path, capsys):
    check_is_refused(prune_lm.main, flags, tmp_path, capsys)


def test_missing_texts_and_encoders(folder):
    with pytest.raises(CheckpointError, match=r"nowhere/config\.json"):
        sweep.Lab(Config(model=folder / "nowhere", out=folder))
    (folder / "train.txt").unlink()
    with pytest.raises(InputError, match="--calibration is"):
        sweep.Lab(Config(model=folder / "model", out=folder))
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = {"model_type": "bert", "vocab_size": 9, "max_position_embeddings": 8, "type_vocab_size": 1, **sizes}
    models.new_checkpoint(folder / "bert", bert, jax.random.key(0))
    with pytest.raises(InputError, match="is an encoder"):
        sweep.Lab(Config(model=folder / "bert", out=folder))
