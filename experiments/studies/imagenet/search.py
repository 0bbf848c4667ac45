"""The trainings on ImageNet: one by a plan, or the levels of iterative magnitude pruning."""

import pathlib
from collections.abc import Iterator

import jax

import jaxticket as jt
from experiments.runs.records import TrainingRecord
from experiments.studies.imagenet import training
from experiments.studies.imagenet.config import Config
from experiments.studies.imagenet.program import Program, seed_of
from jaxticket import loops, tickets
from jaxticket.tickets import rewinds
from jaxticket.typing import Key, Mask, Params, PyTree, Trained


def search(
    config: Config, program: Program, trainer: training.Trainer, folder: pathlib.Path
) -> Iterator[TrainingRecord]:
    """Yield the records of the levels of iterative magnitude pruning with late rewinding."""
    init_key, early_key, key = jax.random.split(jax.random.key(config.seed), 3)
    rewind_step = round(config.rewind_epochs * program.per_epoch)
    names = {seed_of(loops.level_keys(i, key=key)[0]): f"level {i}" for i in range(len(config.densities()))}

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
        yield TrainingRecord(level.trained.metrics, f"level {level.index}", kept)


def rewind_point(
    config: Config,
    program: Program,
    trainer: training.Trainer,
    path: pathlib.Path,
    step: int,
    keys: tuple[Key, Key],
) -> jt.Ticket:
    """Return the ticket to search from: the dense network at the rewind step, trained or loaded."""
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


def train(config: Config, program: Program, trainer: training.Trainer, path: pathlib.Path) -> TrainingRecord:
    """Return the record of one training by a plan; its ticket holds the trained weights and their mask."""
    if not path.exists():
        init_key, key = jax.random.split(jax.random.key(config.seed))
        carry = program.begin(*program.init(init_key), None)
        carry = trainer.fit(config.method, carry, key, first=0, last=program.steps)
        params, mask = program.evaluated(carry), jt.mask_of(carry.opt_state)
        accuracy = trainer.evaluate(config.method, program.steps, carry)
        results = {"density": float(jt.density(params, mask)), "validation_accuracy": accuracy}
        meta = {"config": config.identity(), **results}
        tickets.save(path, jt.Ticket(params, mask, program.steps, carry.state, meta=meta))
    meta = tickets.describe(path)["meta"]
    return TrainingRecord({"validation_accuracy": meta["validation_accuracy"]}, config.method, meta["density"])
