"""Winning tickets on real data: iterative magnitude pruning with rewinding, and two controls at every level.

    python experiments/imp.py                              LeNet-300-100 on digits: configs/lenet_mnist5k.py says more
    python experiments/imp.py --levels 22 --replicates 6   extends the same run
    python experiments/imp.py --dry-run                    the plan, and nothing else
    python experiments/imp.py --preset resnet20_cifar      starts from other defaults, those of a file in configs/

After Frankle & Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks" (2019). The same
command resumes a killed run, to the same bits.
"""

import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

import jax

from experiments.configs import PRESETS
from experiments.reports import searches, study
from experiments.reports.progress import Rows
from experiments.reports.study import Watch
from experiments.runs import command_line, environment, processes
from experiments.studies.imp.config import Config
from experiments.studies.imp.report import report
from experiments.studies.imp.search import BRANCHES, densities, search
from experiments.training.problems import Problem, build
from jaxticket import filters, schedules


def rows(config: Config) -> tuple[int, Rows]:
    """A line for each level of each replicate."""
    return config.replicates * config.levels * len(BRANCHES), searches.by_level(config.replicates, BRANCHES)


def prepare(config: Config, watch: Watch) -> Problem:
    """The network, its data, and what trains the replicates."""
    problem = build(config, replicates=config.replicates, **watch.looks)
    lanes = problem.trainer.lanes
    memory = environment.memory(problem.init, problem.fresh, problem.dataset, lanes=lanes)
    watch.announce(memory, steps=problem.steps)
    return problem


def reached(config: Config) -> list[float]:
    """Return the density of each level, where layers differ that of most of them."""
    return list(schedules.levels(config.levels, rate=config.rate))


def plan(config: Config, problem: Problem) -> list[str]:
    """Return the lines of --dry-run."""
    params, _ = jax.eval_shape(problem.init, jax.random.key(0))
    mask = jax.eval_shape(functools.partial(filters.full_mask, where=filters.weights()), params)
    count, prunable = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (params, mask))
    levels = [max(jax.tree.leaves(density)) for density in densities(config, mask)]
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(problem.dataset))
    # Parameters, gradients, two moments, updates; the rewind point and the trained level; the mask.
    memory = held + (4 * count * 7 + prunable) * problem.trainer.lanes
    trainings = config.replicates * config.levels * len(BRANCHES)
    saved = trainings * (2 * 4 * count + prunable / 8)  # weights before and after each training, and the mask
    return [
        f"levels       {config.levels}, densities {' '.join(f'{density:.4g}' for density in levels)}",
        f"trainings    {trainings}: {config.replicates} replicates, {config.levels} levels, {len(BRANCHES)} each",
        f"each         {problem.steps - problem.rewind_step} steps of {config.batch_size} examples, after the "
        f"{problem.rewind_step} up to the rewind point; {problem.trainer.where}",
        f"parameters   {count:,}, of which {prunable:,} can be pruned",
        f"memory       about {memory / 2**20:.0f} MiB beside the compiled programs",
        f"disk         at most {saved / 2**20:.0f} MiB",
    ]


STUDY = study.Study(
    configure=lambda argv: command_line.preset_config(argv, PRESETS, description=__doc__),
    rows=rows,
    prepare=prepare,
    records=lambda config, problem, watch: search(config, problem, config.folder()),
    report=report,
    plan=plan,
    prunes=lambda config, problem: environment.prunable(problem.init, reached(config)),
)
main = STUDY.main

if __name__ == "__main__":
    processes.host_devices()  # replicates side by side, one a core
    sys.exit(main())
