"""The loop around a program's steps: checkpoints, notices of preemption, progress and journal."""

import contextlib
import itertools
import json
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

import jaxticket as jt
from experiments.runs import processes
from experiments.runs.records import StepRecord
from experiments.studies.imagenet import reading
from experiments.studies.imagenet.config import Config
from experiments.studies.imagenet.program import Carry, Program, seed_of
from jaxticket import files
from jaxticket.errors import CheckpointError, DivergedError, StoppedError
from jaxticket.typing import Key

REPORT_STEPS = 100  # between lines


class Trainer:
    """A loop that trains, and evaluates after each epoch; a killed training resumes from its checkpoint.

    Args:
      stopping: asked after each step: shall the training save its state and stop?
    """

    def __init__(
        self,
        config: Config,
        program: Program,
        photographs: reading.Photographs,
        *,
        folder: pathlib.Path,
        stopping: Callable[[], bool],
    ):
        self._config, self._program, self._photographs, self._stopping = config, program, photographs, stopping
        self._checkpoints = _Checkpoints(folder / "checkpoints")
        self._journal = Journal(folder / "metrics.jsonl")
        self._density = jax.jit(jt.density)

    def fit(self, name: str, carry: Carry, key: Key, *, first: int, last: int) -> Carry:
        """Run steps first … last − 1 of the training called `name`, after a fresh optimizer. Donates the carry.

        Raises StoppedError, once the state is saved, when the machine is about to be taken away; DivergedError at a
        loss that is not finite.
        """
        config, program, seed = self._config, self._program, seed_of(key)
        batches = reading.training(config, self._photographs, seed=seed, like=program.batch)
        at, shift, seen = first, np.int32(first), []
        if saved := self._checkpoints.load(seed, program.carry):
            carry, about = saved
            at, seen = about["step"], about["seen"]
            batches.set_state(about["iterator"])
        self._journal.rewind(name, at)
        timed, began = at, time.monotonic()
        while at < last:
            carry, metrics = program.step(carry, reading.onto(next(batches), program.batch), shift)
            at += 1
            seen.append(metrics)
            jax.block_until_ready(seen[-2:][0])  # one step runs and one waits: each that waits holds a batch
            if at == last or at % program.per_epoch == 0 or at % REPORT_STEPS == 0:
                speed = (at - timed) * config.batch_size / (time.monotonic() - began)
                self._report(name, at, carry, _numbers(name, at, seen), speed)
                if at < last and at % program.per_epoch == 0:
                    self.evaluate(name, at, carry)
                seen, timed, began = [], at, time.monotonic()
            stop = self._stopping()
            if at < last and (stop or at % config.checkpoint_steps == 0):
                numbers = _numbers(name, at, seen)
                self._checkpoints.save(carry, training=seed, step=at, seen=numbers, iterator=batches.get_state())
                if stop:
                    self._checkpoints.close()
                    raise StoppedError(f"stopped by SIGTERM, after step {at} of {name}")
        return carry

    def evaluate(self, name: str, at: int, carry: Carry) -> float:
        """Return the accuracy on all validation examples."""
        program = self._program
        params = program.evaluated(carry)
        right = sum(
            int(program.correct(params, carry.state, batch, valid))
            for batch, valid in reading.validation(self._config, self._photographs, like=program.batch)
        )
        accuracy = right / len(self._photographs.validation)
        self._journal.write(StepRecord({"validation_accuracy": accuracy}, name, at))
        self._say(name, at, f"validation accuracy {100 * accuracy:.2f} %")
        return accuracy

    def clear(self) -> None:
        """Remove the checkpoints, once all trainings that they served are finished."""
        self._checkpoints.clear()

    def _report(self, name: str, at: int, carry: Carry, seen: Sequence[Mapping[str, float]], speed: float) -> None:
        loss, accuracy = (float(np.mean([step[what] for step in seen])) for what in ("loss", "accuracy"))
        density = float(self._density(carry.params, jt.mask_of(carry.opt_state)))
        rate = float(self._program.learning_rate(at))
        measured = {"loss": loss, "accuracy": accuracy, "density": density, "learning_rate": rate}
        self._journal.write(StepRecord({**measured, "images_per_second": round(speed, 1)}, name, at))
        shown = f"accuracy {100 * accuracy:.2f} %  density {density:.4f}  learning rate {rate:.3g}"
        self._say(name, at, f"loss {loss:.4f}  {shown}  {speed:,.0f} images/s")

    def _say(self, name: str, at: int, what: str) -> None:
        if processes.is_main():
            epoch = at / self._program.per_epoch
            print(f"{name}  epoch {epoch:6.2f}/{self._config.epochs}  step {at}  {what}", flush=True)


def _numbers(name: str, at: int, seen: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return the metrics of some steps, off the devices. Raises DivergedError unless all are finite."""
    numbers = [{what: float(value) for what, value in step.items()} for step in seen]
    if not all(np.isfinite(step["loss"]) for step in numbers):
        raise DivergedError(
            f"the loss of {name} is not finite at step {at}; the last checkpoint is kept; lower --learning-rate"
        )
    return numbers


class Journal:
    """A JSON value a line, by process 0; lines of a training after the step from which it resumes are dropped."""

    def __init__(self, file: pathlib.Path):
        self._file = file

    def rewind(self, name: str, step: int) -> None:
        """Keep the lines of the training called `name` up to this step."""
        if processes.is_main() and self._file.exists():
            kept = [record for record in read(self._file) if record.training != name or record.step <= step]
            files.write_text(self._file, "".join(json.dumps(record.line()) + "\n" for record in kept))

    def write(self, record: StepRecord) -> None:
        """Add a line."""
        if processes.is_main():
            with files.writing(self._file), self._file.open("a") as stream:
                stream.write(json.dumps(record.line()) + "\n")


def read(file: pathlib.Path) -> list[StepRecord]:
    """Read the records of a journal; a line that a kill has torn is skipped."""
    records = []
    for line in file.read_text().splitlines() if file.exists() else []:
        with contextlib.suppress(ValueError):
            records.append(StepRecord.parse(json.loads(line)))
    return records


class _Checkpoints:
    """The newest two states, which orbax writes while the training continues."""

    def __init__(self, directory: pathlib.Path):
        from orbax.checkpoint import v1

        policy = v1.training.preservation_policies.LatestN(2)
        self._directory = directory.absolute()
        self._kept = v1.training.Checkpointer(self._directory, preservation_policy=policy, cleanup_tmp_directories=True)
        self._next = 0 if self._kept.latest is None else self._kept.latest.step + 1

    def load(self, training: int, like: Carry) -> tuple[Carry, dict[str, Any]] | None:
        """Return the newest state, laid out as `like`, and the values saved with it; None for another training."""
        newest = self._kept.latest
        if newest is None:
            return None
        try:
            about = self._kept.metadata(newest).custom_metadata
            return (self._kept.load(newest, like), about) if about["training"] == training else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            folder = self._directory / str(newest.step)
            raise CheckpointError(
                f"{folder} cannot be read ({str(error)[:200]}); delete it to resume from the one before"
            ) from error

    def save(self, carry: Carry, **about: Any) -> None:
        """Begin to write a state, once the one before is written; the carry may be donated at once."""
        self._kept.wait()  # orbax 0.12 loses track of a state that is still being written when another save begins
        self._kept.save_async(self._next, carry, force=True, custom_metadata=about)
        self._next += 1

    def close(self) -> None:
        """Wait for the state that is being written."""
        self._kept.close()

    def clear(self) -> None:
        """Delete all states."""
        self._kept.wait()
        for checkpoint in list(self._kept.checkpoints):
            self._kept.delete(checkpoint)
        self._kept.close()


@contextlib.contextmanager
def noticing() -> Iterator[Callable[[], bool]]:
    """Return a function to be called after each step: whether the run stops, because some process got SIGTERM.

    All of several processes get the same answer after the same step: JAX passes the notice of one to the others, and
    they agree on a step that none has passed. Once the answer is yes, it stays so.
    """
    steps, answers = itertools.count(), [False]
    if jax.process_count() > 1:

        def ask() -> bool:
            answers[0] |= multihost_utils.reached_preemption_sync_point(next(steps))
            return answers[0]

        yield ask
        return
    before = signal.signal(signal.SIGTERM, lambda *_: answers.__setitem__(0, True))
    try:
        yield lambda: answers[0]
    finally:
        signal.signal(signal.SIGTERM, before)
