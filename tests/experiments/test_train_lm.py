"""A language model trained on text: its folder, its vocabulary, and a run that is there already."""

import json
import pathlib

import jax
import numpy as np
import pytest

from experiments import train_lm
from experiments.studies.train_lm import corpus
from experiments.studies.train_lm.config import END, Config
from jaxticket import models
from jaxticket.errors import InputError
from tests.cheap import check_is_refused

SIZES = ["--layers", "1", "--width", "8", "--heads", "2", "--key-value-heads", "1", "--hidden", "12", "--context", "8"]
FLAGS = [*SIZES, "--vocabulary", "300", "--batch-size", "4", "--tokens", "64", "--warmup", "1", "--held-out", "32"]


def test_the_network_is_one_of_transformers(tmp_path):
    checkpoint = models.new_checkpoint(
        tmp_path / "new", Config(layers=1, width=16, heads=2, key_value_heads=1).network(300), jax.random.key(0)
    )
    assert checkpoint.blocks == ("block1",)
    assert checkpoint.load_outer()["token"]["embedding"].shape == (300, 16)


def test_texts_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="--text nowhere"):
        corpus.load(Config(text=pathlib.Path("nowhere")))
    (tmp_path / "short.txt").write_text("a line\n")
    with pytest.raises(InputError, match="has 1 lines"):
        corpus.load(Config(text=tmp_path / "short.txt"))


def test_unigram_perplexity():
    rows = np.array([[0, 1, 1, 2]])
    counts = np.array([1, 3, 2]) / 6
    expected = np.exp(-np.log(counts[[1, 1, 2]]).mean())
    assert corpus.unigram_perplexity(rows, rows, 3) == pytest.approx(expected)


@pytest.mark.slow
def test_a_run(tmp_path, capsys):
    tokenizers = pytest.importorskip("tokenizers")
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(f"the {word} sat on the {word} mat and looked at it" for word in 10 * ["cat", "dog"]))
    command = ["--text", str(text), *FLAGS, "--out", str(tmp_path / "runs")]
    assert train_lm.main(command) == 0
    assert "by frequencies alone" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    (line,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert line["perplexity"] > 1
    trained, initial = (models.read_checkpoint(run / name).load_outer() for name in ("model", "initial"))
    assert (trained["token"]["embedding"] != initial["token"]["embedding"]).any()
    tokenizer = tokenizers.Tokenizer.from_file(str(run / "model" / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode("the cat sat").ids).strip() == "the cat sat"
    assert tokenizer.token_to_id(END) == 0
    assert len((run / "held_out.txt").read_text().splitlines()) == 2
    assert [json.loads(line)["step"] for line in (run / "curve.jsonl").read_text().splitlines()][-1] == 2
    assert train_lm.main(command) == 0


@pytest.mark.parametrize(
    "flags",
    [
        *(["--vocabulary", "9"], ["--width", "9"], ["--key-value-heads", "3"]),
        *(["--tokens", "5"], ["--warmup", "99999"], ["--learning-rate", "0"], ["--layers", "0"]),
    ],
)
def test_bad_flags(flags, tmp_path, capsys):
    check_is_refused(train_lm.main, flags, tmp_path, capsys)
