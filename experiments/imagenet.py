"""Sparse training on ImageNet, on one device or on a mesh of many: RigL, GraNet, gradual pruning, winning tickets.

    python experiments/imagenet.py --data-dir DIR                                ResNet-50, RigL at density 0.2
    python experiments/imagenet.py --preset vit_small --data-dir DIR             ViT-S, gradual pruning to 0.5
    python experiments/imagenet.py --method imp --density 0.1 --data-dir DIR     winning tickets, rewound late
    python experiments/imagenet.py --mesh fsdp=2,tensor=2 --data-dir DIR         the other devices share the batch
    python experiments/imagenet.py --dry-run                                     the plan, and nothing else
    python experiments/imagenet.py --lower 256                                   the cost of a step on 256 devices

The same command resumes a killed run, also on another mesh or number of processes. At SIGTERM it saves its state and
exits with code 0. See docs/imagenet.md.
"""

import math
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

import jax
from jax.sharding import AxisType

from experiments.configs import imagenet_resnet50, imagenet_vit_small
from experiments.runs import command_line, dry_run, environment, processes
from experiments.runs.config import require
from experiments.runs.records import TrainingRecord
from experiments.studies.imagenet import lowering, reading, training
from experiments.studies.imagenet.config import Config
from experiments.studies.imagenet.program import Program
from experiments.studies.imagenet.report import report
from experiments.studies.imagenet.search import search, train

PRESETS = {"resnet50": imagenet_resnet50, "vit_small": imagenet_vit_small}


def run(config: Config) -> list[TrainingRecord]:
    """Train what is not trained yet, and report. Returns the record of each training."""
    folder = config.folder().absolute()
    mesh = make_mesh(config)
    photographs = reading.find(config)
    require(
        config.batch_size <= len(photographs.train),
        config,
        "batch_size",
        f"at most the {len(photographs.train)} examples",
    )
    program = Program(config, mesh, examples=len(photographs.train), classes=photographs.classes)
    if processes.is_main():
        reached = config.densities() if config.method == "imp" else [config.density]
        print(environment.prunable(program.init, reached), flush=True)
    with command_line.opened(config), training.noticing() as stopping:
        trainer = training.Trainer(config, program, photographs, folder=folder, stopping=stopping)
        if config.method == "imp":
            records = list(search(config, program, trainer, folder))
        else:
            records = [train(config, program, trainer, folder / "ticket")]
        trainer.clear()
        if processes.is_main():
            report(config, records, folder)
    return records


def plan(config: Config) -> str:
    """Return the lines of --dry-run."""
    devices = math.prod(config.axes(jax.device_count()).values())
    mesh = jax.sharding.AbstractMesh(tuple(config.axes(devices).values()), tuple(config.axes(devices)))
    program = Program(config, mesh, examples=reading.EXAMPLES, classes=reading.CLASSES)
    leaves = jax.tree.leaves(program.carry)
    prunable = sum(leaf.size for leaf in jax.tree.leaves(program.carry.opt_state.mask))
    held = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
    count = sum(leaf.size for leaf in jax.tree.leaves(program.carry.params))
    saved = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    trainings = len(config.densities()) if config.method == "imp" else 1
    rewinding = round(config.rewind_epochs * program.per_epoch) if config.method == "imp" else 0
    steps = program.steps + (trainings - 1) * (program.steps - rewinding)
    disk = 2 * saved + (trainings + 1) * 2 * 4 * count
    return "\n".join(
        [
            dry_run.folder(config.folder()),
            f"mesh         {', '.join(f'{axis} {size}' for axis, size in mesh.shape.items())}",
            f"trainings    {trainings}: {steps:,} steps of {config.batch_size} of {reading.EXAMPLES:,} examples in all",
            f"parameters   {count:,}, of which {prunable:,} can be pruned",
            f"a step       {lowering.flops(program) / 1e12:.2f} TFLOP over all devices, counted dense",
            f"memory       {held / 2**20:,.0f} MiB a device of weights, optimizer and mask; gradients, activations and "
            "batches come on top (--lower counts them)",
            f"disk         about {disk / 2**20:,.0f} MiB",
        ]
    )


def make_mesh(config: Config) -> jax.sharding.Mesh:
    """Return the mesh of all devices of all processes. Raises InputError if --mesh does not fit them."""
    sizes = config.axes(jax.device_count())
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def lower(config: Config) -> None:
    """Print the cost of a step for each of the imagined devices."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", config.lower)
    print(lowering.table(config, make_mesh(config)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    with command_line.one_line_errors():
        config = command_line.preset_config(argv, PRESETS, description=__doc__)
        command_line.run_or_plan(config, plan=plan, run=lower if config.lower else run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
