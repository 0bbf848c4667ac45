"""The branches of a finished search, each a change of a ticket, or of its training."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple

import jax

from experiments.runs.processes import Pod
from experiments.studies.imp.config import Config as Search
from experiments.studies.imp.config import of_run
from experiments.training import problems
from jaxticket import loops, tickets
from jaxticket.errors import InputError
from jaxticket.typing import Params, PyTree

branches = loops.branches

BRANCHES = (
    "sign_reinit",
    "global_random_ticket",
    "inverted_mask",
    "dense",
    "small_dense",
    "retrained",
    "rewinding_sweep",
    "learning_rate_sweep",
    "transfer",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Pod):
    """Train the levels of a finished search again, with one thing changed."""

    EXPERIMENT: ClassVar[str] = "branch"

    run: pathlib.Path
    """The folder of the search."""
    branch: Literal[BRANCHES] = "sign_reinit"
    """The change of each level: new weights of the same signs;
    a mask shuffled over all layers, its complement, or no mask;
    a narrower dense network of as many parameters; the trained weights without rewinding;
    the rewind point; the learning rate; the data set or the optimizer.
    Each trains as long as the ticket did."""
    levels: tuple[int, ...] = ()
    """The levels to branch from; by default all of them."""
    rewind_steps: tuple[int, ...] = ()
    """With rewinding_sweep: the steps to rewind to."""
    learning_rates: tuple[float, ...] = ()
    """With learning_rate_sweep: the peaks of the schedule, each for tickets and for random reinits.
    With transfer: the peak that suits the new data or optimizer, if it is another."""
    to_data: Literal["mnist5k", "fashion_mnist", "cifar10"] | None = None
    """With transfer: the data set to which the tickets are transferred."""
    to_optimizer: Literal["adam", "sgd"] | None = None
    """With transfer: the optimizer to which the tickets are transferred."""
    to_data_dir: pathlib.Path | None = None
    """The folder of the data set of --to-data."""
    data_dir: pathlib.Path | None = None
    """The folder of the search's data set."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints inside a training."""
    evidence: pathlib.Path | None = None
    """Also store the claims that the branch tests in this folder, such as docs/evidence, for `make report`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = {
            "rewind_steps": self.branch == "rewinding_sweep",
            "learning_rates": self.branch in ("learning_rate_sweep", "transfer"),
            "to_data": self.branch == "transfer",
            "to_optimizer": self.branch == "transfer",
        }
        for name, used in needed.items():
            if getattr(self, name) and not used:
                raise InputError(f"{_flag(name)} is not for --branch {self.branch}; leave it out")
        if self.branch == "transfer" and not (self.to_data or self.to_optimizer):
            raise InputError("--branch transfer has no target; name --to-data, --to-optimizer or both")
        if self.branch == "transfer" and len(self.learning_rates) > 1:
            raise InputError(f"--learning-rates names {len(self.learning_rates)}, but a transfer has one")
        for branch, name in (("rewinding_sweep", "rewind_steps"), ("learning_rate_sweep", "learning_rates")):
            if self.branch == branch and not getattr(self, name):
                raise InputError(f"--branch {branch} needs {_flag(name)}; name one value or more")

    def name(self) -> str:
        """Return the name of the branch with its values: the folder of its results."""
        values = [*self.rewind_steps, *self.learning_rates, self.to_data, self.to_optimizer]
        return "_".join([self.branch, *(f"{value}" for value in values if value is not None)])

    def hash(self) -> str:
        """Return the hash of the search, with the name of the branch."""
        return f"{self.run.resolve().name.rpartition('-')[2]}-{self.name()}"

    @property
    def setting(self) -> str:
        """The setting of the search, and of the transfer."""
        return of_run(self.run).setting + (f", tickets moved to {self.to_data}" if self.to_data else "")

    def folder(self) -> pathlib.Path:
        """The folder of the branch."""
        return self.run / "branches" / self.name()

    def command(self) -> list[str]:
        """The command that a user types to train this branch."""
        return ["python", f"experiments/{self.EXPERIMENT}.py", *self.flags()]

    def flags(self) -> list[str]:
        """The flags that make this configuration."""
        given = [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]
        of_process = {"checkpoint_seconds", "evidence", *(field.name for field in dataclasses.fields(Pod))}
        given = [(name, value) for name, value in given if value not in (None, ()) and name not in of_process]
        values = lambda value: map(str, value if isinstance(value, tuple) else (value,))
        return list(itertools.chain.from_iterable((_flag(name), *values(value)) for name, value in given))


class SearchedLevel(NamedTuple):
    """A level of a search: its ticket, and the trained weights by which its mask was chosen."""

    ticket: tickets.Ticket
    unpruned: Callable[[], tuple[Params, PyTree]]


Make = Callable[
    [SearchedLevel, problems.Problem, jax.Array], tickets.Ticket
]  # with the problem it trains on, and a key


class Variant(NamedTuple):
    """A training of a branch at each level: a column of its table."""

    name: str
    make: Make
    search: Search  # the data, network, optimizer and schedule that it trains with
    start: Search  # the search from whose rewind point its weights come


def variants(config: Config, search: Search) -> Sequence[Variant]:
    """Return the trainings of the branch at each level of the search."""
    if config.branch == "rewinding_sweep":
        changed = [dataclasses.replace(search, rewind_step=k, rewind_fraction=0.0) for k in config.rewind_steps]
        return [Variant(f"rewound_to_{c.rewind_step}", _ticket, c, c) for c in changed]
    if config.branch == "learning_rate_sweep":
        changed = [dataclasses.replace(search, learning_rate=rate) for rate in config.learning_rates]
        makes = {"ticket": _ticket, "random_reinit": _random_reinit}
        return [Variant(f"{n}_{c.learning_rate}", make, c, search) for c in changed for n, make in makes.items()]
    if config.branch == "transfer":
        changes = {
            "data": config.to_data or search.data,
            "optimizer": config.to_optimizer or search.optimizer,
            "learning_rate": (*config.learning_rates, search.learning_rate)[0],
            "data_dir": config.to_data_dir if config.to_data else config.data_dir,
        }
        there = dataclasses.replace(search, **changes)
        makes = {"transfer": _transfer, "random_ticket_there": _random_ticket_there, "dense_there": _dense_there}
        return [Variant(name, make, there, search) for name, make in makes.items()]
    return [Variant(config.branch, _PLAIN[config.branch], search, search)]


def _ticket(level: SearchedLevel, problem: problems.Problem, key: jax.Array) -> tickets.Ticket:
    return level.ticket


def _random_reinit(level: SearchedLevel, problem: problems.Problem, key: jax.Array) -> tickets.Ticket:
    return branches.random_reinit(level.ticket, problem.init, key=key)


def _retrained(level: SearchedLevel, problem: problems.Problem, key: jax.Array) -> tickets.Ticket:
    params, state = level.unpruned()
    return dataclasses.replace(level.ticket, params=params, state=state)


def _small_dense(level: SearchedLevel, problem: problems.Problem, key: jax.Array) -> tickets.Ticket:
    def init(width: int, key: jax.Array) -> tuple[Params, PyTree]:
        return problem.narrow(width).init(key)

    return branches.small_dense(level.ticket, init, key=key)


def _transfer(level: SearchedLevel, problem: problems.Problem, key: jax.Array) -> tickets.Ticket:
    ticket = branches.transfer(level.ticket, problem.init, key=key)
    return dataclasses.replace(ticket, step=problem.rewind_step)  # the same part of a training there


def _random_ticket_there(level: SearchedLevel, problem: problems.Problem, key: jax.Array) -> tickets.Ticket:
    transfer_key, shuffle_key = jax.random.split(key)
    return branches.random_ticket(_transfer(level, problem, transfer_key), key=shuffle_key)


def _dense_there(level: SearchedLevel, problem: problems.Problem, key: jax.Array) -> tickets.Ticket:
    return branches.dense(_transfer(level, problem, key))


_PLAIN: dict[str, Make] = {
    "sign_reinit": lambda level, problem, key: branches.sign_reinit(level.ticket, problem.init, key=key),
    "global_random_ticket": lambda level, problem, key: branches.global_random_ticket(level.ticket, key=key),
    "inverted_mask": lambda level, problem, key: branches.inverted_mask(level.ticket),
    "dense": lambda level, problem, key: branches.dense(level.ticket),
    "small_dense": _small_dense,
    "retrained": _retrained,
}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
