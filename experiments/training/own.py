"""A network and data of the user's own, for the flag --problem."""

import importlib
import importlib.machinery
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.runs.config import OwnProblem
from experiments.training import problems
from jaxticket import data
from jaxticket.errors import InputError

_LOOKS = "--problem is {problem!r}, but must be module:function, such as my_problem:build or path/to/file.py:build"


class Problem(NamedTuple):
    """The values that a function named by --problem returns.

    Attributes:
      dataset: train, validation and test examples, as `jaxticket.data.Dataset`.
      model: an object with the functions of `jaxticket.models.Model`: init(key) -> (params, state), and
        apply(params, state, x, *, train, key) -> (logits, state).
    """

    dataset: data.Dataset
    model: Any


def basis(config: OwnProblem) -> problems.Basis:
    """Return what the configuration trains: the problem that --problem names, or a network and data of the library.

    Raises:
      InputError: a problem that cannot be imported, or whose network and data do not fit each other.
    """
    if not config.problem:
        return problems.basis(config)
    problems.check_devices(config)
    dataset, model = build(config.problem)
    return problems.basis(config, dataset, model)


def build(problem: str) -> Problem:
    """Call the function that `problem` names, and check what it returns.

    Args:
      problem: "module:function"; the module is a name to import, from the current folder too, or the path of a file.

    Returns:
      The data set and the network.

    Raises:
      InputError: another form, a module or function that is missing, or values that are not a problem.
    """
    returned = _function(problem)()
    try:
        dataset, model = returned
        splits = [(split.x.shape, split.y.shape) for split in data.Dataset(*dataset)]
        init, apply = model.init, model.apply
    except (TypeError, ValueError, AttributeError) as error:
        wanted = "a data.Dataset of three splits (x, y), and a network with init and apply"
        raise InputError(f"--problem {problem}: the function must return {wanted} ({error})") from error
    if any(x[:1] != y for x, y in splits) or len({x[1:] for x, _ in splits}) != 1:
        raise InputError(f"--problem {problem}: splits have shapes {splits}; each needs (n, ...) examples, (n,) labels")
    _check_network(problem, init, apply, dataset)
    return Problem(data.Dataset(*(data.Split(jnp.asarray(x), jnp.asarray(y)) for x, y in dataset)), model)


def _function(problem: str) -> Callable[[], Any]:
    place, colon, name = problem.rpartition(":")
    if not colon or not place or not name:
        raise InputError(_LOOKS.format(problem=problem))
    module = _module(problem, place)
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"--problem {problem}: {module.__name__} has no function {name!r}")
    return function


def _module(problem: str, place: str) -> types.ModuleType:
    sys.path.insert(0, str(pathlib.Path.cwd()))
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        loader = importlib.machinery.SourceFileLoader(pathlib.Path(place).stem, place)
        module = types.ModuleType(loader.name)
        loader.exec_module(module)
        return module
    except (ImportError, OSError) as error:
        raise InputError(f"--problem {problem}: {place} cannot be imported ({error})") from error
    finally:
        sys.path.pop(0)


def _check_network(problem: str, init: Any, apply: Any, dataset: Any) -> None:
    x, y = dataset[0]

    def logits(key: jax.Array) -> jax.Array:
        params, state = init(key)
        return apply(params, state, x[:2], train=False, key=None)[0]

    try:
        shape = jax.eval_shape(logits, jax.random.key(0)).shape
    except Exception as error:
        raise InputError(f"--problem {problem}: the network does not run on its examples ({error})") from error
    if len(shape) != 2 or shape[0] != min(2, len(x)):
        raise InputError(f"--problem {problem}: logits of 2 examples have shape {shape}, but must be (2, classes)")
    if int(y.max()) >= shape[1] or int(y.min()) < 0:
        raise InputError(
            f"--problem {problem}: labels lie between {int(y.min())} and {int(y.max())}, but logits have shape {shape}"
        )
