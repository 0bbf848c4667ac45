"""Winning tickets on real digits: iterative magnitude pruning of LeNet-300-100, with two controls at every level.

    python experiments/imp.py                              the defaults: configs/imp.py says what to expect
    python experiments/imp.py --levels 22 --replicates 6   extends the same run
    python experiments/imp.py --dry-run                    the plan, and nothing else

After Frankle & Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks" (2019). A run that
was killed goes on, to the same bits, when the same command is given again.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

import jax
import optax

from experiments import _cli, _report
from experiments._problem import Problem, lenet_problem
from experiments.configs.imp import Config, require
from jaxticket import data, filters, loops, masks, schedules, scopes, tickets
from jaxticket.tickets import rewinds
from jaxticket.typing import Density, PyTree

BRANCHES = ("ticket", "random_reinit", "random_ticket")


def build(config: Config, *, checkpoint: Any = None, progress: loops.ProgressFn | None = None) -> Problem:
    """The problem of this configuration. Raises InputError for values that do not fit the data."""
    dataset = data.mnist5k(seed=config.seed, validation=config.validation, test=config.test)
    steps = config.epochs * (len(dataset.train.y) // config.batch_size)
    require(steps > 0, config, "batch_size", f"at most the {len(dataset.train.y)} training examples")
    for name in ("rewind_step", "warmup"):
        require(getattr(config, name) < steps, config, name, f"below the {steps} steps of a training")
    return lenet_problem(
        dataset,
        learning_rate=_learning_rate(config, steps),
        batch_size=config.batch_size,
        steps=steps,
        rewind_step=config.rewind_step,
        checkpoint=checkpoint,
        progress=progress,
    )


def densities(config: Config, mask: PyTree) -> Sequence[Density]:
    """The density of each level: a number, or with --scope layer one for each layer, as in the paper."""
    if config.scope == "global":
        return schedules.levels(config.levels, rate=config.rate)
    rates = {"hidden1": config.rate, "hidden2": config.rate, "output": config.rate / 2}
    by_layer = {name: schedules.levels(config.levels, rate=rate) for name, rate in rates.items()}

    def of(level: int) -> Density:
        return {name: jax.tree.map(lambda _, name=name: by_layer[name][level], layer) for name, layer in mask.items()}

    return [of(level) for level in range(config.levels)]


def replicate(config: Config, problem: Problem, index: int, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The records of one replicate: for each level the ticket and both controls, each as soon as it is trained."""
    root = jax.random.fold_in(jax.random.key(config.seed), index)
    init_key, early_key, search_key, reinit_key, shuffle_key = jax.random.split(root, 5)
    scope = scopes.tree() if config.scope == "global" else scopes.leaf()
    stores = {branch: loops.Store(folder / branch) for branch in BRANCHES}
    search = loops.imp(
        problem.train,
        ticket := rewind_point(config, problem, folder / "rewind_point", init_key, early_key, index),
        densities=densities(config, ticket.mask),
        prune=loops.prune.by(scope=scope, minimum=config.minimum),
        rewind=_policy(config, problem.steps),
        key=search_key,
        store=stores["ticket"],
    )
    for level in search:
        yield _record(index, "ticket", level)
        train_key, _ = loops.level_keys(search_key, level.index)
        controls = {
            "random_reinit": loops.branches.random_reinit(
                level.ticket, problem.init, key=jax.random.fold_in(reinit_key, level.index)
            ),
            "random_ticket": loops.branches.random_ticket(
                level.ticket, key=jax.random.fold_in(shuffle_key, level.index)
            ),
        }
        for branch, control in controls.items():
            trained = loops.train_level(
                problem.train, control, index=level.index, density=level.density, key=train_key, store=stores[branch]
            )
            yield _record(index, branch, trained)


def rewind_point(
    config: Config, problem: Problem, path: pathlib.Path, init_key: jax.Array, train_key: jax.Array, index: int
) -> tickets.Ticket:
    """The ticket to search from: the dense network at the rewind step, loaded if a former process trained it."""
    params, state = problem.init(init_key)
    mask = filters.full_mask(params, filters.weights())
    meta = {"config": config.identity(), "config_hash": config.hash(), "replicate": index, "data": "mnist5k"}
    like = tickets.Ticket(params, mask, config.rewind_step, state, jax.eval_shape(problem.fresh, params), meta)
    if path.exists():
        point = tickets.load(path, like=like)
    else:
        early = problem.fit(params, state, mask, train_key, step=0, steps=config.rewind_step, opt_state=None)
        point = dataclasses.replace(like, params=early.params, state=early.state, opt_state=early.opt_state)
        tickets.save(path, point)
    return point if config.rewind == "everything" else dataclasses.replace(point, opt_state=None)


def run(config: Config) -> list[dict[str, Any]]:
    """Trains what is not trained yet, and reports. Returns the records of all levels, branches and replicates."""
    folder = config.folder()
    checkpoint = loops.StepCheckpoint(folder / "checkpoint", every=config.checkpoint_seconds)
    records = []
    with _report.Progress(config.replicates, config.levels, BRANCHES) as progress:
        problem = build(config, checkpoint=checkpoint, progress=progress.step)
        with loops.rundir.lock(folder):
            loops.rundir.claim(folder, {"experiment": "imp", **config.identity()})
            lines = loops.rundir.JsonLines(folder / "metrics.jsonl")
            for index in range(config.replicates):
                for record in replicate(config, problem, index, folder / f"replicate_{index}"):
                    lines.append(record)
                    records.append(record)
                    progress.finished(record)
            lines.close()
            checkpoint.clear()
    _report.write(folder, records, BRANCHES, title=f"LeNet-300-100 on 5,000 MNIST digits, run {config.hash()}")
    return records


def plan(config: Config) -> str:
    """What the command would do."""
    problem = build(config)
    params, _ = jax.eval_shape(problem.init, jax.random.key(0))
    mask = jax.eval_shape(functools.partial(filters.full_mask, where=filters.weights()), params)
    count, prunable = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (params, mask))
    levels = [max(jax.tree.leaves(density)) for density in densities(config, mask)]
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(problem.dataset))
    # Parameters, gradients, two moments, updates; the rewind point and the trained level; the mask.
    memory = held + 4 * count * 7 + prunable
    trainings = config.replicates * config.levels * len(BRANCHES)
    saved = trainings * (2 * 4 * count + prunable / 8)  # weights before and after each training, and the mask
    return "\n".join(
        [
            f"run folder   {config.folder()} ({'exists: would go on' if config.folder().exists() else 'new'})",
            f"levels       {config.levels}, densities {' '.join(f'{density:.4g}' for density in levels)}",
            f"trainings    {trainings}: {config.replicates} replicates, {config.levels} levels, {len(BRANCHES)} each",
            f"each         {problem.steps - config.rewind_step} steps of {config.batch_size} examples",
            f"parameters   {count:,}, of which {prunable:,} can be pruned",
            f"memory       about {memory / 2**20:.0f} MiB beside the compiled programs",
            f"disk         at most {saved / 2**20:.0f} MiB",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    with _cli.one_line_errors():
        config = _cli.parse(Config, argv, description=__doc__)
        _cli.require_extras("experiments", "models", "io", "data", "plots")
        if config.dry_run:
            print(plan(config))
        else:
            run(config)
    return 0


def _learning_rate(config: Config, steps: int) -> optax.Schedule:
    after = optax.constant_schedule(config.learning_rate)
    if config.decay == "cosine":
        after = optax.cosine_decay_schedule(config.learning_rate, steps - config.warmup)
    if not config.warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0, config.learning_rate, config.warmup), after], [config.warmup])


def _policy(config: Config, steps: int) -> rewinds.Rewind:
    return {
        "weights": rewinds.weights(),
        "everything": rewinds.everything(),
        "learning-rate": rewinds.learning_rate(),
        "fine-tune": rewinds.fine_tune(steps),
    }[config.rewind]


def _record(index: int, branch: str, level: loops.Level) -> dict[str, Any]:
    density = masks.summary(level.ticket.params, level.ticket.mask).maskable.density
    return {"replicate": index, "level": level.index, "branch": branch, "density": density, **level.trained.metrics}


if __name__ == "__main__":
    sys.exit(main())
