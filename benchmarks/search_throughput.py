"""The speed of the search for tickets: LeNet-300-100 on 60,000 images, batch 128, in seconds an epoch a ticket.

Rows are one ticket with all cores, and eight at once. They stand against PyTorch on CPU (its optimizer loop, and
gradients written by hand) and against the floor: the same matrix products and nothing else. --torch-python names an
interpreter that has PyTorch; without it those rows are left out. Each contender is a process of its own, and they take
turns in random order. `overhead` is the part of a search that is not training: pruning, rewinding, evaluation, saving.
"""

import contextlib
import dataclasses
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import _harness

HERE = pathlib.Path(__file__).parent
CORES = os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Contender:
    """The processes that train `tickets` together; each gets the number of its own tickets."""

    name: str
    tickets: int
    commands: tuple[tuple[str, ...], ...]
    threads: int


def contenders(torch_python: str | None) -> list[Contender]:
    ours = [
        Contender(f"{label}, {n} ticket(s)", n, ((sys.executable, str(HERE / "_jax_lenet.py"), work, str(n)),), CORES)
        for n in (1, 8)
        for label, work in (("jaxticket", "search"), ("matrix products", "products"))
    ]
    if torch_python is None:
        return ours
    torch = lambda how: (torch_python, str(HERE / "_torch_lenet.py"), how)
    one = [Contender(f"torch {how}, 1 ticket(s)", 1, (torch(how),), CORES) for how in ("optim", "by-hand")]
    many = [Contender(f"torch {how}, 8 ticket(s)", 8, (torch(how),) * CORES, 1) for how in ("optim", "by-hand")]
    return [*ours, *one, *many]


class Running:
    """The processes of a contender, warmed up and waiting."""

    def __init__(self, contender: Contender, stack: contextlib.ExitStack, examples: int):
        self.contender = contender
        looks = {"OMP_NUM_THREADS": str(contender.threads), "JAX_PLATFORMS": "cpu", "EXAMPLES": str(examples)}
        self.processes = [
            stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **looks}
                )
            )
            for command in contender.commands
        ]
        stack.callback(self.stop)
        for process in self.processes:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{contender.name} did not start")

    def seconds(self) -> float:
        """Return the seconds of an epoch, a ticket."""
        share = self.contender.tickets // len(self.processes)
        begin = time.perf_counter()
        for process in self.processes:
            process.stdin.write(f"{share}\n")
            process.stdin.flush()
        for process in self.processes:
            process.stdout.readline()
        return (time.perf_counter() - begin) / self.contender.tickets

    def stop(self) -> None:
        for process in self.processes:
            process.stdin.close()


def throughput(torch_python: str | None, *, rounds: int, examples: int) -> list[dict]:
    with contextlib.ExitStack() as stack:
        running = [Running(contender, stack, examples) for contender in contenders(torch_python)]
        times: dict[str, list[float]] = {r.contender.name: [] for r in running}
        order = random.Random(0)
        for _ in range(rounds):
            for r in order.sample(running, len(running)):
                times[r.contender.name].append(r.seconds())
    medians = {name: statistics.median(t) for name, t in times.items()}
    rows = []
    for r in running:
        ours = medians[f"jaxticket, {r.contender.tickets} ticket(s)"]
        seconds = medians[r.contender.name]
        rows.append({"what": r.contender.name, "s / epoch / ticket": seconds, "over jaxticket": seconds / ours})
    return rows


def seconds_outside(*, levels: int, examples: int) -> float:
    """Return the seconds of each training of a search that lie before and after the training itself."""
    sys.path.insert(0, str(HERE.parent))
    import jax
    import jax.numpy as jnp

    from experiments.studies.imp import search
    from experiments.studies.imp.config import Config
    from experiments.training import problems
    from jaxticket import data

    config = Config(levels=levels, replicates=1, epochs=1, batch_size=128)
    split = lambda n: data.Split(jnp.ones((n, 784)), jnp.arange(n) % 10)
    dataset = data.Dataset(split(examples), split(5_000), split(10_000))
    problem = problems.build(config, dataset=dataset)
    training = 0.0

    def timed(*args, **kwargs):
        nonlocal training
        begin = time.perf_counter()
        fitted = jax.block_until_ready(problem.trainer.fit(*args, **kwargs))
        training += time.perf_counter() - begin
        return fitted

    with tempfile.TemporaryDirectory() as folder:
        trainer = dataclasses.replace(problem.trainer, fit=timed)
        levels = search.replicates(config, problem._replace(trainer=trainer), [0], pathlib.Path(folder))
        branches = len(search.BRANCHES)
        for _ in range(2 * branches):  # the first levels compile
            next(levels)
        training, begin = 0.0, time.perf_counter()
        trainings = sum(1 for _ in levels)
        return (time.perf_counter() - begin - training) / trainings


def main() -> None:
    args = _harness.arguments(__doc__, torch_python=True)
    busy = _harness.Busy()
    examples = 6_000 if args.quick else 60_000
    rows = throughput(args.torch_python, rounds=1 if args.quick else 7, examples=examples)
    outside = seconds_outside(levels=3 if args.quick else 8, examples=examples)
    for epochs in (1, 12):
        seconds = epochs * rows[0]["s / epoch / ticket"] + outside
        what = f"outside of trainings of {epochs} epoch(s)"
        rows.append({"what": what, "s / epoch / ticket": outside / epochs, "over jaxticket": outside / seconds})
    _harness.report("search_throughput", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
