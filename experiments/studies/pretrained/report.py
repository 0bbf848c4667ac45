"""The report of a run: the table, the plot, the page and the claims."""

from collections.abc import Sequence

from experiments.claims import sizes
from experiments.runs.records import SweepRecord
from experiments.studies.pretrained.claims import claims
from experiments.studies.pretrained.config import Config

_ALIKE = {"efficientnet_lite0": "same class (%)", "minilm": "rank correlation (%)"}


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot and the page."""
    sizes.write(
        config,
        records,
        claims(config, records),
        measure="alike",
        label=_ALIKE[config.network],
        title=f"{config.setting}, against the dense network",
        heading="What is left of the outputs",
        note="times over dense",
        times="time at batch",
    )
