"""The report of a run, and its claims: Monarch layers are worth more than as few weights elsewhere."""

from collections.abc import Sequence

from experiments.claims import sizes
from experiments.claims.judge import Contest, by_seed
from experiments.claims.record import Claim
from experiments.runs.records import SweepRecord
from experiments.studies.monarch.config import Config

_PAPER = "Dao et al. 2022, Monarch matrices"
_CLAIMS = (  # the method, the control, points by which it must be above, and the rest of the sentence
    (
        "monarch",
        "dense",
        -1.0,
        "lose at most 1 point against dense ones",
        "ViT-B and GPT-2: twice as fast, as accurate",
    ),
    (
        "dense_to_sparse",
        "dense",
        -1.0,
        "projected from a dense network lose at most 1 point",
        "BERT on GLUE: +0.1 points",
    ),
    ("dense_to_sparse", "unprojected", 0.0, "projected from a dense network beat drawn ones, tuned alike", "–"),
    ("reverse", "dense", -1.0, "made dense for the end of a training lose at most 1 point", "GPT-2: as good"),
    ("monarch", "narrow", 0.0, "beat dense layers with as few parameters", "–"),
)


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot and the page."""
    sizes.write(
        config,
        records,
        claims(config, records),
        measure="test_accuracy",
        label="test accuracy (%)",
        title=f"{config.setting}: hidden layers as Monarch matrices",
        heading="Structured layers",
        note=f"times of a batch of {config.batch_size} over dense",
        times="time of",
    )


def claims(config: Config, records: Sequence[SweepRecord]) -> list[Claim]:
    """Return the claims of each number of blocks."""
    judged = []
    for blocks in map(float, sorted(config.blocks)):
        of = lambda method, blocks=blocks: by_seed(records, curve=method, sparsity=blocks)
        for method, control, least, rest, expected in _CLAIMS:
            below = by_seed(records, curve="dense") if control == "dense" else of(control)
            claim = f"Hidden layers as Monarch matrices of {blocks:g} blocks {rest}."
            judged += Contest(_PAPER, claim, expected, method, control, blocks, least).judged(of(method), below)
    return judged
