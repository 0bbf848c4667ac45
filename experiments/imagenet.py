"""Sparse training on ImageNet, on one device or on a mesh of many: RigL, GraNet, gradual pruning, winning tickets.

    python experiments/imagenet.py --data-dir DIR                                ResNet-50, RigL at density 0.2
    python experiments/imagenet.py --preset vit_small --data-dir DIR             ViT-S, gradual pruning to 0.5
    python experiments/imagenet.py --method imp --density 0.1 --data-dir DIR     winning tickets, rewound late
    python experiments/imagenet.py --mesh fsdp=2,tensor=2 --data-dir DIR         the other devices share the batch
    python experiments/imagenet.py --dry-run                                     the plan, and nothing else
    python experiments/imagenet.py --lower 256                                   what a step costs each of 256 devices

A run that was killed goes on when the same command is given again, also on another mesh or number of processes. SIGTERM
has it save its state and exit with code 0. docs/imagenet.md says more.
"""

import math
import pathlib
import sys
from collections.abc import Iterator, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

import jax
from jax.sharding import AxisType

import jaxticket as jt
from experiments import _cli, _html, _plan, _plot, _pod, _report
from experiments._config import require
from experiments._imagenet import lowering, reading, training
from experiments._imagenet.config import Config
from experiments._imagenet.program import Program, seed_of
from experiments.configs import imagenet_resnet50, imagenet_vit_small
from jaxticket import loops, tickets
from jaxticket.tickets import rewinds
from jaxticket.typing import Key, Mask, Params, PyTree, Trained

PRESETS = {"resnet50": imagenet_resnet50, "vit_small": imagenet_vit_small}


def search(
    config: Config, program: Program, trainer: training.Trainer, folder: pathlib.Path
) -> Iterator[_report.Record]:
    """The records of the levels of iterative magnitude pruning with late rewinding, each as soon as it is trained."""
    init_key, early_key, key = jax.random.split(jax.random.key(config.seed), 3)
    rewind_step = round(config.rewind_epochs * program.per_epoch)
    names = {seed_of(loops.level_keys(key, i)[0]): f"level {i}" for i in range(len(config.densities()))}

    def train(params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None) -> Trained:
        del opt_state  # a fresh one at each level
        name = names[seed_of(key)]
        carry = trainer.fit(name, program.begin(params, state, mask), key, first=step, last=program.steps)
        accuracy = trainer.evaluate(name, program.steps, carry)
        return Trained(program.evaluated(carry), carry.state, {"validation_accuracy": accuracy})

    def prune(params: Params, mask: Mask, density: float, *, key: Key) -> Mask:
        return loops.prune_by()(program.placed(params), mask, density, key=key)

    point = rewind_point(config, program, trainer, folder / "rewind_point", rewind_step, (init_key, early_key))
    levels = loops.imp(
        train,
        point,
        densities=config.densities(),
        prune=prune,
        rewind=rewinds.weights(),
        key=key,
        store=tickets.Store(folder / "levels"),
    )
    for level in levels:
        kept = float(jt.density(level.ticket.params, level.ticket.mask))
        yield {"training": f"level {level.index}", "density": kept, **level.trained.metrics}


def rewind_point(
    config: Config,
    program: Program,
    trainer: training.Trainer,
    path: pathlib.Path,
    step: int,
    keys: tuple[Key, Key],
) -> jt.Ticket:
    """The ticket to search from: the dense network at the rewind step, loaded if a former process trained it."""
    init_key, early_key = keys
    shapes, places = program.carry, program.places
    if path.exists():
        like = jt.Ticket(shapes.params, shapes.opt_state.mask, step, shapes.state)
        onto = jt.Ticket(places.params, places.opt_state.mask, step, places.state)
        return tickets.load(path, like=like, shardings=onto)
    params, state = program.init(init_key)
    mask = program.full_mask(params)
    early = trainer.fit("rewind point", program.begin(params, state, mask), early_key, first=0, last=step)
    point = jt.Ticket(early.params, mask, step, early.state, meta={"config": config.identity()})
    tickets.save(path, point)
    return point


def train(config: Config, program: Program, trainer: training.Trainer, path: pathlib.Path) -> _report.Record:
    """The record of one training by a plan; its ticket holds the trained weights and their mask."""
    if not path.exists():
        init_key, key = jax.random.split(jax.random.key(config.seed))
        carry = program.begin(*program.init(init_key), None)
        carry = trainer.fit(config.method, carry, key, first=0, last=program.steps)
        params, mask = program.evaluated(carry), jt.mask_of(carry.opt_state)
        found = {
            "density": float(jt.density(params, mask)),
            "validation_accuracy": trainer.evaluate(config.method, program.steps, carry),
        }
        meta = {"config": config.identity(), **found}
        tickets.save(path, jt.Ticket(params, mask, program.steps, carry.state, meta=meta))
    meta = tickets.describe(path)["meta"]
    return {"training": config.method, **{name: meta[name] for name in ("density", "validation_accuracy")}}


def run(config: Config) -> list[_report.Record]:
    """Trains what is not trained yet, and reports. Returns the record of each training."""
    folder = config.folder().absolute()
    mesh = make_mesh(config)
    found = reading.find(config)
    require(config.batch_size <= len(found.train), config, "batch_size", f"at most the {len(found.train)} examples")
    program = Program(config, mesh, examples=len(found.train), classes=found.classes)
    with _cli.opened(config), training.noticing() as stopping:
        trainer = training.Trainer(config, program, found, folder=folder, stopping=stopping)
        if config.method == "imp":
            records = list(search(config, program, trainer, folder))
        else:
            records = [train(config, program, trainer, folder / "ticket")]
        trainer.clear()
        if _pod.is_main():
            report(config, records, folder)
    return records


def report(config: Config, records: Sequence[_report.Record], folder: pathlib.Path) -> None:
    """Writes and prints the tables, the plot and the page."""
    title = f"{config.model} on ImageNet by {_report.plain(config.method)}, run {config.hash()}"
    columns = ("training", "weights kept", "validation accuracy")
    rows = [(r["training"], f"{r['density']:.4f}", f"{100 * r['validation_accuracy']:.2f}") for r in records]
    newest = folder / ("ticket" if config.method != "imp" else f"levels/level_{len(records) - 1:03d}")
    seen = [r for r in training.read(folder / "metrics.jsonl") if "validation_accuracy" in r]
    with _plot.figure(folder / "accuracy.png") as axes:
        for record in records:
            points = [(r["step"], 100 * r["validation_accuracy"]) for r in seen if r["training"] == record["training"]]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=record["training"])
        axes.set(xlabel="step", ylabel="validation accuracy (%)", title=title)
        axes.legend()
    _report.publish(
        folder,
        text=f"{title}\n\n"
        + _report.grid(columns, rows, title="accuracy in % on the validation split")
        + "\n"
        + _report.layers(newest, title=f"what {rows[-1][0]} keeps of each layer"),
        results=list(records),
        warnings="",
        page=_html.page_of(
            config,
            title,
            columns=columns,
            rows=rows,
            shows="Validation accuracy over the training",
            heading="Accuracy in % on the validation split, which is what papers report; one seed",
        ),
        others=f"metrics.jsonl, and the ticket {newest.relative_to(folder)}",
    )


def plan(config: Config) -> str:
    """What the command would do."""
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
            _plan.folder(config.folder()),
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
    """All devices of all processes. Raises InputError if --mesh has not as many."""
    sizes = config.axes(jax.device_count())
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def lower(config: Config) -> None:
    """Prints what a step would cost each of the imagined devices."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", config.lower)
    print(lowering.table(config, make_mesh(config)))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    with _cli.one_line_errors():
        config = _cli.preset_config(argv, PRESETS, description=__doc__)
        _cli.run_or_plan(config, plan=plan, run=lower if config.lower else run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
