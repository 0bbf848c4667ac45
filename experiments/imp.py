"""Winning tickets on real data: iterative magnitude pruning with rewinding, and two controls at every level.

    python experiments/imp.py                              LeNet-300-100 on digits: configs/lenet_mnist5k.py says more
    python experiments/imp.py --levels 22 --replicates 6   extends the same run
    python experiments/imp.py --dry-run                    the plan, and nothing else
    python experiments/imp.py --preset resnet20_cifar      starts from other defaults, those of a file in configs/

After Frankle & Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks" (2019). A run that
was killed goes on, to the same bits, when the same command is given again.
"""

import dataclasses
import functools
import itertools
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

import jax

from experiments import _cli, _environment, _events, _evidence, _levels, _plan, _pod, _report, _search_claims
from experiments._config import Config
from experiments._problem import Problem, build
from experiments._together import Together
from experiments.configs import conv4_cifar, lenet_fashion, lenet_mnist5k, resnet20_cifar, vgg16_cifar
from jaxticket import diagnostics, filters, loops, masks, schedules, scopes, tickets
from jaxticket.errors import DivergedError
from jaxticket.tickets import rewinds
from jaxticket.typing import Density, PyTree

BRANCHES = ("ticket", "random_reinit", "random_ticket")
PRESETS = {
    module.__name__.rpartition(".")[2]: module
    for module in (lenet_mnist5k, lenet_fashion, conv4_cifar, resnet20_cifar, vgg16_cifar)
}


def densities(config: Config, mask: PyTree) -> Sequence[Density]:
    """The density of each level: a number, or with --scope layer one a layer, as in the paper."""
    if config.scope == "global":
        return schedules.levels(config.levels, rate=config.rate)
    hidden, output = (schedules.levels(config.levels, rate=rate) for rate in (config.rate, config.rate / 2))

    def of(level: int) -> Density:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: (output if path[0].key == "output" else hidden)[level], mask
        )

    return [of(level) for level in range(config.levels)]


class Keys(NamedTuple):
    """Of one replicate, each for a purpose of its own."""

    init: jax.Array
    early: jax.Array  # training up to the rewind point
    search: jax.Array
    reinit: jax.Array
    shuffle: jax.Array


def keys_of(config: Config, index: int) -> Keys:
    """The keys of a replicate."""
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(config.seed), index), 5))


def replicate(config: Config, problem: Problem, index: int, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The records of one replicate: for each level the ticket and both controls, each as soon as it is trained."""
    keys = keys_of(config, index)
    scope = scopes.tree() if config.scope == "global" else scopes.leaf()
    stores = {branch: tickets.Store(folder / branch) for branch in BRANCHES}
    levels = loops.imp(
        problem.train,
        ticket := rewind_point(config, problem, folder / "rewind_point", index),
        densities=densities(config, ticket.mask),
        prune=loops.prune_by(scope=scope, minimum=config.minimum),
        rewind=_policy(config, problem.steps),
        key=keys.search,
        store=stores["ticket"],
    )
    for level in levels:
        yield record(index, "ticket", level)
        train_key, _ = loops.level_keys(keys.search, level.index)
        controls = {
            "random_reinit": loops.branches.random_reinit(
                level.ticket, problem.init, key=jax.random.fold_in(keys.reinit, level.index)
            ),
            "random_ticket": loops.branches.random_ticket(
                level.ticket, key=jax.random.fold_in(keys.shuffle, level.index)
            ),
        }
        for branch, control in controls.items():
            trained = loops.train_level(
                problem.train, control, index=level.index, density=level.density, key=train_key, store=stores[branch]
            )
            yield record(index, branch, trained)


def search(config: Config, problem: Problem, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The records of all replicates, which are trained in one program where that is faster, else in turn."""
    folders = [folder / f"replicate_{index}" for index in range(config.replicates)]
    if problem.fit_together is None:
        each = (replicate(config, problem, index, path) for index, path in enumerate(folders))
        return itertools.chain.from_iterable(_named(index, records) for index, records in enumerate(each))
    together = Together(problem.fit_together, config.replicates)
    problems = (problem._replace(fit=together.fit_of(index)) for index in range(config.replicates))
    return together.advance([_named(i, replicate(config, p, i, folders[i])) for i, p in enumerate(problems)])


def _named(index: int, records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The records of a replicate; they come in order, so that their number tells which training diverges."""
    done = 0
    try:
        for found in records:
            yield found
            done += 1
    except DivergedError as error:
        level, branch = divmod(done, len(BRANCHES))
        where = f"replicate {index}, level {level}, {_report.plain(BRANCHES[branch])}"
        raise DivergedError(f"{where}: {error}") from error


def rewind_point(config: Config, problem: Problem, path: pathlib.Path, index: int) -> tickets.Ticket:
    """The ticket to search from: the dense network at the rewind step, loaded if a former process trained it."""
    keys = keys_of(config, index)
    params, state = problem.init(keys.init)
    mask = filters.full_mask(params, filters.weights())
    meta = {"config": config.identity(), "config_hash": config.hash(), "replicate": index, "data": config.data}
    like = tickets.Ticket(params, mask, problem.rewind_step, state, jax.eval_shape(problem.fresh, params), meta)
    if path.exists():
        point = tickets.load(path, like=like)
    else:
        early = problem.fit(params, state, mask, keys.early, step=0, steps=problem.rewind_step, opt_state=None)
        point = dataclasses.replace(like, params=early.params, state=early.state, opt_state=early.opt_state)
        tickets.save(path, point)
    return point if config.rewind == "everything" else dataclasses.replace(point, opt_state=None)


def run(config: Config) -> list[_report.Record]:
    """Trains what is not trained yet, and reports. Returns the records of all levels, branches and replicates."""
    folder = config.folder()
    checkpoint = _cli.step_checkpoint(folder / "checkpoint", every=config.checkpoint_seconds)
    total = config.replicates * config.levels * len(BRANCHES)
    with _report.Progress(total, _levels.by_level(config.replicates, BRANCHES)) as progress:
        problem = build(config, replicates=config.replicates, checkpoint=checkpoint, progress=progress.step)
        lanes = config.replicates if problem.fit_together else 1
        progress.tell(_environment.memory(problem.init, problem.fresh, problem.dataset, lanes=lanes))
        progress.steps = problem.steps
        with _cli.run_folder(config, progress):
            records = _report.keep(search(config, problem, folder), folder / "metrics.jsonl", progress)
            checkpoint.clear()
    if _pod.is_main():
        report(config, records, title=title(config, problem))
    return records


def report(config: Config, records: Sequence[_report.Record], *, title: str) -> None:
    """Writes and prints the table, the plot, the page, the claims, and with --tensorboard the event files."""
    folder, command = config.folder(), config.command()
    _levels.write(folder, records, BRANCHES, title=title, config=dataclasses.asdict(config), command=command)
    series = _evidence.curves(records, BRANCHES)
    _evidence.store(config, _search_claims.of_search(records), command=command, series=series, axes=_evidence.AXES)
    if config.tensorboard:
        _events.write(folder / "tensorboard", _events.over_levels(records))


def title(config: Config, problem: Problem) -> str:
    """Of the table and the plot."""
    examples = sum(len(split.y) for split in problem.dataset)
    return f"{config.model} on {config.data} ({examples:,} examples), run {config.hash()}"


def plan(config: Config) -> str:
    """What the command would do."""
    problem = build(config, replicates=config.replicates)
    params, _ = jax.eval_shape(problem.init, jax.random.key(0))
    mask = jax.eval_shape(functools.partial(filters.full_mask, where=filters.weights()), params)
    count, prunable = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (params, mask))
    levels = [max(jax.tree.leaves(density)) for density in densities(config, mask)]
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(problem.dataset))
    # Parameters, gradients, two moments, updates; the rewind point and the trained level; the mask.
    memory = held + (4 * count * 7 + prunable) * (config.replicates if problem.fit_together else 1)
    trainings = config.replicates * config.levels * len(BRANCHES)
    saved = trainings * (2 * 4 * count + prunable / 8)  # weights before and after each training, and the mask
    return "\n".join(
        [
            _plan.folder(config.folder()),
            f"levels       {config.levels}, densities {' '.join(f'{density:.4g}' for density in levels)}",
            f"trainings    {trainings}: {config.replicates} replicates, {config.levels} levels, {len(BRANCHES)} each",
            f"each         {problem.steps - problem.rewind_step} steps of {config.batch_size} examples, after the "
            f"{problem.rewind_step} up to the rewind point; {problem.where}",
            f"parameters   {count:,}, of which {prunable:,} can be pruned",
            f"memory       about {memory / 2**20:.0f} MiB beside the compiled programs",
            f"disk         at most {saved / 2**20:.0f} MiB",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    with _cli.one_line_errors():
        config = _cli.preset_config(argv, PRESETS, description=__doc__)
        _cli.run_or_plan(config, plan=plan, run=run)
    return 0


def _policy(config: Config, steps: int) -> rewinds.Rewind:
    return {
        "weights": rewinds.weights(),
        "everything": rewinds.everything(),
        "learning-rate": rewinds.learning_rate(),
        "fine-tune": rewinds.fine_tune(steps),
    }[config.rewind]


def record(index: int, branch: str, level: loops.Level) -> dict[str, Any]:
    mask = level.ticket.mask
    density = masks.summary(level.ticket.params, mask).maskable.density
    found = {"density": density, "collapsed": sorted(diagnostics.layer_collapse([mask]))}
    return {"replicate": index, "level": level.index, "branch": branch, **found, **level.trained.metrics}


if __name__ == "__main__":
    _pod.host_devices()  # replicates side by side, one a core
    sys.exit(main())
