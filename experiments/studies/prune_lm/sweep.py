"""The points of a run: a network that is pruned block by block, its perplexity, and the folder that is written."""

import functools
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxticket as jt
from experiments.reports.sweeps import Sweep
from experiments.runs import environment
from experiments.runs.records import SweepRecord
from experiments.studies.prune_lm.config import DENSE, Config, Method, Pattern
from experiments.training import language
from jaxticket import masks, models
from jaxticket.errors import InputError
from jaxticket.methods.finetune import blockwise
from jaxticket.methods.finetune.sparsegpt import sparsegpt
from jaxticket.typing import Mask, Params

_MOST = 2048  # tokens of a sequence, unless the user asks for more


class Lab(Sweep):
    """The records that a run has, the network, and its texts as tokens, which are read when they are first needed."""

    def __init__(self, config: Config, **looks: Any):
        super().__init__(config, ("perplexity",), **looks)
        self.checkpoint = models.read_checkpoint(config.model)
        if self.checkpoint.config.get("model_type") == "bert":
            raise InputError(f"--model {config.model} is an encoder, which predicts no next token; name a decoder")
        for file, flag in zip(config.texts(), ("--calibration", "--evaluation"), strict=True):
            if not file.is_file():
                raise InputError(f"{flag} is {file}, which is missing; name a text with a document in each line")

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The tokenizer in the folder of the network."""
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_file(str(self.config.model / "tokenizer.json"))
        except Exception as error:  # the library raises nothing narrower
            raise InputError(f"--model {self.config.model} has no tokenizer.json that can be read: {error}") from error

    @property
    def context(self) -> int:
        """The tokens of a sequence."""
        config = self.checkpoint.config
        most = config.get("max_position_embeddings", config.get("n_positions", _MOST))
        return self.config.context or min(most, _MOST)

    @functools.cached_property
    def outer(self) -> Params:
        """The parameters outside the blocks."""
        return jax.tree.map(jnp.asarray, self.checkpoint.load_outer())

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """The tokens of which the perplexity is measured."""
        texts = language.documents(self.config.texts()[1], "--evaluation")
        end = self.checkpoint.config.get("eos_token_id")
        end = end if isinstance(end, int) else None
        return language.windows(self.tokenizer, texts, self.context, end=end, limit=self.config.evaluated)

    @functools.cached_property
    def calibration(self) -> list[str]:
        """The documents of which calibration sequences are parts."""
        return language.documents(self.config.texts()[0], "--calibration")

    def batches(self, seed: int) -> list[np.ndarray]:
        """Return the calibration sequences of a seed."""
        number, size = self.config.sequences, self.config.batch_size
        drawn = (self.config.seed, seed)
        rows = language.random_windows(self.tokenizer, self.calibration, self.context, number=number, seed=drawn)
        return [rows[first : first + size] for first in range(0, number, size)]

    def scorer(self) -> language.Scorer:
        """Return the perplexity's measurement, before the first block."""
        return language.Scorer(self.checkpoint.stages, self.outer, self.rows, batch_size=self.config.batch_size)

    def table(self) -> str:
        """Return the layers of a block that are pruned; nothing, where no point is missing."""
        if not self.missing:
            return ""
        densities = sorted({pattern.density for pattern in self.config.patterns}, reverse=True)
        table = environment.prunable(lambda _: (self.checkpoint.load_block(self.checkpoint.blocks[0]), None), densities)
        return f"{len(self.checkpoint.blocks)} blocks, each {table}"


def points(lab: Lab, show: Callable[[str], None]) -> Iterator[SweepRecord]:
    """Yield a record for each cell; finished ones are yielded as they are. `show` gets the current work."""
    yield from lab.finished
    for curve, sparsity, seed in lab.missing:
        measured = _measure(lab, curve, sparsity, seed, lambda block, curve=curve: show(f"{curve}, {block}"))
        yield SweepRecord(measured, curve, sparsity, seed)


def _measure(lab: Lab, curve: str, sparsity: float, seed: int, show: Callable[[str], None]) -> dict[str, Any]:
    scorer, checkpoint = lab.scorer(), lab.checkpoint
    if curve == DENSE:
        for name in checkpoint.blocks:
            show(name)
            scorer.through(jax.tree.map(jnp.asarray, checkpoint.load_block(name)))
        return {"perplexity": scorer.perplexity(), "layers": {}}
    layers: dict[str, tuple[float, float]] = {}
    method, pattern = lab.config.pattern(curve, sparsity)
    saved = Saved(folder_of(lab.config, curve, sparsity) / f"seed_{seed}")
    blocks = ((name, checkpoint.load_block(name)) for name in checkpoint.blocks)

    def pruned() -> Iterator[tuple[str, Params]]:
        made = blockwise.prune_blocks(
            checkpoint.stages, lab.outer, blocks, lab.batches(seed), pruner(method, pattern), finished=saved
        )
        for block in made:
            show(block.name)
            saved.keep(*block)
            scorer.through(block.params)
            layers.update(_layers(block, checkpoint.load_block(block.name)))
            yield block.name, block.params

    written = folder_of(lab.config, curve, sparsity) / "model"
    if seed or written.exists():
        for _ in pruned():
            pass
    else:
        models.write_checkpoint(written, checkpoint, pruned())
    saved.clear()
    return {"perplexity": scorer.perplexity(), "layers": layers if not seed else {}}


def pruner(method: Method, pattern: Pattern) -> blockwise.PruneBlock:
    """Return the function that prunes a block."""
    if method == "sparsegpt":
        return functools.partial(sparsegpt, density=pattern.density, group=pattern.group, sequential=False)
    return {"magnitude": blockwise.by_magnitude, "wanda": blockwise.by_wanda}[method](
        pattern.density, group=pattern.group
    )


def folder_of(config: Config, curve: str, sparsity: float) -> pathlib.Path:
    """Return the folder of a pruned network and its unfinished blocks."""
    return config.folder() / f"{curve.replace(' ', '-').replace(':', '_')}-{1 - sparsity:.4g}"


class Saved(Mapping[str, tuple[Params, Mask]]):
    """The blocks that a killed run has pruned, read from their files when they are asked for."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def __getitem__(self, name: str) -> tuple[Params, Mask]:
        if not (self.folder / name).exists():
            raise KeyError(name)
        ticket = jt.load(self.folder / name)
        return ticket.params, ticket.mask

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.name for path in self.folder.glob("block*")))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def keep(self, name: str, params: Params, mask: Mask) -> None:
        """Save a block, unless it is there."""
        if name not in self:
            jt.save(self.folder / name, jt.Ticket(params, mask, 0))

    def clear(self) -> None:
        """Delete the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _layers(block: blockwise.Pruned, dense: Params) -> dict[str, tuple[float, float]]:
    """Return of each pruned layer the density, and the share of its squared norm that the pruned weights had."""
    found = {}
    dense = jax.tree.map(lambda p: np.asarray(p, np.float32), dense)
    left = jt.apply_mask(dense, block.mask)
    rows = masks.summary(dense, block.mask).rows
    for row, before, after in zip(rows, jax.tree.leaves(dense), jax.tree.leaves(left), strict=True):
        if row.density is not None:
            lost = 1 - float(np.sum(np.square(after))) / max(float(np.sum(np.square(before))), 1e-30)
            found[f"{block.name}/{row.path}"] = (row.density, lost)
    return found
