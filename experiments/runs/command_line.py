"""The command line of every experiment: flags from a dataclass, and errors of one line."""

import contextlib
import dataclasses
import errno
import importlib.util
import io
import logging
import os
import pathlib
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from experiments.runs import environment, notice, processes
from experiments.runs.config import Run, Training, identity_in
from experiments.runs.folder import claim, lock
from jaxticket import tickets
from jaxticket.errors import CheckpointWarning, InputError, JaxticketError, MissingExtraError, StoppedError

_python_warning = warnings.formatwarning
ConfigT = TypeVar("ConfigT")
PresetT = TypeVar("PresetT")
RunT = TypeVar("RunT", bound=Run)
TrainingT = TypeVar("TrainingT", bound=Training)

EXTRAS = ("experiments", "models", "io", "data", "plots")  # of a training
_PACKAGES = {
    "experiments": ("tyro", "rich"),
    "models": ("flax",),
    "io": ("orbax.checkpoint",),
    "data": ("mlxtend",),
    "plots": ("matplotlib",),
    "tensorboard": ("tensorboardX",),
    "text": ("tokenizers",),
    "graphs": ("networkx",),
}


# What a disk or a folder does to a run: it is full, over its quota, read-only, unreadable, gone, or broken.
_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ESTALE),
}


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with one line on stderr for errors that the user can mend.

    The exit code is 2 for such errors, 130 when interrupted, and 0 when SIGTERM made the run save its state and stop.
    Characters that a terminal or a log cannot show are printed as "?".
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    formatting, warnings.formatwarning = warnings.formatwarning, _one_line_warning
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs the errors that it raises, at length
    try:
        with notice.heard():
            yield
        sys.stdout.flush()
    except StoppedError as stopped:
        _say(f"{stopped}; the same command resumes from here")
        sys.exit(0)
    except JaxticketError as error:
        _say(f"error: {' '.join(str(error).split())}")
        sys.exit(2)
    except KeyboardInterrupt:
        _say("stopped; the same command resumes from here")
        sys.exit(130)
    except BrokenPipeError:  # of `| head`; without this Python complains once more when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        fix = "mend that or choose another folder; finished results stay, and the same command resumes from them"
        _say(f"error: {error.filename or 'a file of the run'}: {error.strerror}; {fix}")
        sys.exit(2)
    finally:
        warnings.formatwarning = formatting


def step_checkpoint(directory: pathlib.Path, *, every: float) -> tickets.StepCheckpoint:
    """Return a step checkpoint that, after SIGTERM, saves the run at its next chance and stops it."""
    notice.ask()
    return tickets.StepCheckpoint(directory, every=every, stop=notice.came)


class Opened(Protocol):
    """A configuration whose run has a folder of its own: `Run`, or alike."""

    @property
    def EXPERIMENT(self) -> str: ...
    def identity(self) -> dict[str, Any]: ...
    def folder(self) -> pathlib.Path: ...


@contextlib.contextmanager
def opened(config: Opened) -> Iterator[pathlib.Path]:
    """Open the folder of the run for this process alone, and note its environment there.

    Raises CheckpointError if the folder belongs to another run or configuration, or cannot be written.
    """
    folder = config.folder()
    with lock(folder):
        claim(folder, identity_in(folder, config))
        environment.record(folder)
        yield folder


def parse(config: ConfigT | type[ConfigT], argv: Sequence[str] | None, *, description: str | None) -> ConfigT:
    """Return the configuration that the flags make of the defaults. Lists may be written with commas.

    Args:
      config: a dataclass, or an instance that holds other defaults.
      argv: the arguments, or None for those of the process.
      description: stands at the top of --help.

    Returns:
      The configuration.

    Raises:
      InputError: bad flags.
    """
    require_extras("experiments")
    import tyro

    kind = config if isinstance(config, type) else type(config)
    given = {} if isinstance(config, type) else {"default": config}
    arguments = _spread(kind, sys.argv[1:] if argv is None else argv)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), _own_flags_first(kind):
            return tyro.cli(kind, args=arguments, description=description, **given)
    except SystemExit as end:
        if not end.code:  # --help
            raise
        hint = _sparsity_hint(kind, arguments)
        raise InputError(f"{_message(printed.getvalue())}{hint} (--help lists all flags)") from None


def _spread(kind: Any, arguments: Sequence[str]) -> list[str]:
    """Return the arguments, in which the values of lists stand apart that were written with commas."""
    lists = {f"--{field.name}" for field in dataclasses.fields(kind) if isinstance(field.default, tuple)}
    spread, listed = [], False
    for argument in arguments:
        flag, equals, values = argument.partition("=")
        if flag.startswith("--"):
            listed = flag in lists
            argument = f"{flag},{values}" if listed and equals else argument
        spread += argument.replace(",", " ").split() if listed else [argument]
    return spread


@contextlib.contextmanager
def _own_flags_first(kind: Any) -> Iterator[None]:
    """Order the flags of --help: those of the experiment, of its base classes, and of several processes last.

    Only tyro sees this order: run folders and commands keep the order in which fields are declared.
    """
    fields = kind.__dataclass_fields__
    origins = {
        name: max(at for at, base in enumerate(kind.__mro__) if name in vars(base).get("__annotations__", {}))
        for name in fields
    }
    kind.__dataclass_fields__ = {name: fields[name] for name in sorted(fields, key=origins.__getitem__)}
    try:
        yield
    finally:
        kind.__dataclass_fields__ = fields


def _sparsity_hint(kind: Any, arguments: Sequence[str]) -> str:
    names = [field.name for field in dataclasses.fields(kind) if field.name in ("density", "densities")]
    if not names or not any(argument.partition("=")[0] == "--sparsity" for argument in arguments):
        return ""
    return f"; use --{names[0]}, the fraction kept: density = 1 - sparsity"


def take_preset(argv: Sequence[str] | None, presets: Mapping[str, PresetT]) -> tuple[PresetT, list[str]]:
    """Return the preset that `--preset NAME` names (the first without it), and the other arguments.

    The preset is read before the other flags, since it sets their defaults.

    Args:
      argv: the arguments, or None for those of the process.
      presets: the presets, by name.

    Raises:
      InputError: an unknown name.
    """
    others = list(sys.argv[1:] if argv is None else argv)
    name = next(iter(presets))
    for at, argument in enumerate(others):
        if argument.partition("=")[0] == "--preset":
            name = argument.partition("=")[2] if "=" in argument else "".join(others[at + 1 : at + 2])
            del others[at : at + (1 if "=" in argument else 2)]
            break
    if name not in presets:
        raise InputError(f"--preset is {name!r}, but must be one of {', '.join(presets)}")
    return presets[name], others


def preset_config(argv: Sequence[str] | None, presets: Mapping[str, Any], *, description: str | None) -> Any:
    """Return the configuration of an experiment whose presets hold whole ones: flags over those of a preset.

    The first preset's are the defaults. Raises InputError for bad flags.
    """
    preset, others = take_preset(argv, presets)
    about = f"{description}\n--preset NAME ({', '.join(presets)}) sets other defaults. These are:\n\n"
    return parse(preset.CONFIG, others, description=about + textwrap.indent(preset.__doc__ or "", "  "))


def training_config(
    default: TrainingT, argv: Sequence[str] | None, presets: Mapping[str, Any], *, description: str
) -> TrainingT:
    """Return the configuration of an experiment that trains: flags over a preset over the default.

    --data may be written as --dataset. Raises InputError for bad flags.
    """
    preset, others = take_preset(argv, presets)
    recipe = {field.name: getattr(preset.CONFIG, field.name) for field in dataclasses.fields(Training)}
    recipe = {name: value for name, value in recipe.items() if name not in Training.NOT_HASHED}
    flags = [re.sub(r"^--dataset(?==|$)", "--data", argument) for argument in others]
    about = f"{description}\nPresets: {', '.join(presets)}."
    return parse(dataclasses.replace(default, **recipe), flags, description=about)


def run_or_plan(
    config: RunT, *, plan: Callable[[RunT], str], run: Callable[[RunT], Any], extras: Sequence[str] = EXTRAS
) -> None:
    """Run an experiment, or with --dry-run print its plan. Raises MissingExtraError if an extra is not installed."""
    require_extras(*extras, *["tensorboard"] * getattr(config, "tensorboard", False))
    processes.start(config)
    if config.dry_run:
        print(plan(config))
    else:
        run(config)


def require_extras(*names: str) -> None:
    """Raise MissingExtraError now, not after hours, if a package of these extras is not installed."""
    for extra in names:
        for package in _PACKAGES[extra]:
            try:
                spec = importlib.util.find_spec(package)
            except ModuleNotFoundError:  # of a parent package
                spec = None
            if spec is None:
                raise MissingExtraError(package.replace(".", "-"), extra)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _one_line_warning(message: Any, category: Any, *where: Any, **others: Any) -> str:
    return f"warning: {message}\n" if category is CheckpointWarning else _python_warning(message, category, *where)


def _message(box: str) -> str:
    """Return the text of tyro's error box (on plain terminals a title and rules) in one line."""
    paragraphs: list[list[str]] = [[]]
    for line in (line.strip(" │") for line in box.splitlines()):
        if re.match(r"[╭╰]|[─-]{5}", line):
            paragraphs.append([])
        else:
            paragraphs[-1].append(line)
    _, message, *others = (" ".join(" ".join(lines).split()) for lines in paragraphs)
    meant = [re.search(r"--[\w-]+", text) for text in others if text.startswith("Perhaps you meant")]
    # What the dataclass itself raised says all; tyro puts its own words before it.
    message = re.sub(r"^Error parsing \w+: ", "", message)
    return message + "".join(f"; perhaps {match.group()} was meant" for match in meant if match)
