"""Whatever a public function is given: it works, or one clear exception says what is wrong, also under jit.

Every public function has a row in the table (or a reason below); the default suite takes some of the wrong
values, `make slow` all of them.
"""

import inspect
import types
import warnings

import jax
import pytest

import jaxticket
from jaxticket.errors import JaxticketError
from tests.conformance.bad_input.core import CORE
from tests.conformance.bad_input.data_pruning import DATA_PRUNING, EXEMPT_DATA_PRUNING
from tests.conformance.bad_input.plans import PLANS
from tests.conformance.bad_input.structured import EXEMPT_STRUCTURED, STRUCTURED
from tests.conformance.bad_input.training import TRAINING

TABLE = CORE | PLANS | TRAINING | DATA_PRUNING | STRUCTURED
EXEMPT = (
    EXEMPT_DATA_PRUNING
    | EXEMPT_STRUCTURED
    | {
        "units.mean": "a reducer, which units call with arrays",
        "units.total": "a reducer, which units call with arrays",
        "units.largest": "a reducer, which units call with arrays",
        "units.l2": "a reducer, which units call with arrays",
        "units.normalise_axis": "what units and scopes check axes with",
        "units.element": "takes nothing",
        "scopes.tree": "takes nothing",
        "scopes.leaf": "takes nothing",
        "masks.unpack": "takes what pack gives",
        "schedules.either": "takes two functions",
        "registry.get": "takes a name: tests/test_registry.py",
        "tickets.save": "a file: tests/tickets/test_save.py",
        "tickets.load": "a file: tests/trust",
        "tickets.describe": "a file: tests/trust",
        "tickets.load_difference": "a file: tests/tickets/test_difference.py",
        "tickets.save_difference": "a file: tests/tickets/test_difference.py",
        "tickets.take_difference": "two trees: tests/tickets/test_difference.py",
        "reparam.expected_l0": "takes what hard_concrete gives",
        "reparam.expected_l2": "takes what hard_concrete gives",
        "reparam.sgdw": "takes what optax takes",
        "reparam.sign_mask": "takes what signed_supermask gives",
        "reparam.threshold_decay": "takes what soft_threshold gives",
        "transforms.mask_params": "masks by the mask of an optimizer state: tests/transforms/test_containers.py",
        "transforms.mask_of": "takes what sparsify gives: tests/transforms",
        "transforms.explored_of": "takes what track_explored gives: tests/transforms",
        "training.replicate": "takes a function and a placement: tests/training/test_placement.py",
        "training.place": "tests/training/test_placement.py",
        "training.distill": "takes functions, and checks as divergence does",
        "loops.branches.rewinding_sweep": "trains: tests/loops/test_branches.py",
        "loops.branches.small_dense": "takes a function of widths: tests/loops/test_branches.py",
        "loops.branches.widest": "takes a function of widths: tests/loops/test_branches.py",
        "loops.early_bird.alive": "takes what init gives",
        "loops.early_bird.worm": "takes functions: tests/loops/test_early_bird.py",
        "loops.early_bird.bird_of": "takes what worm gives",
        "loops.next_ticket": "takes functions, and is a step of imp: tests/loops/test_imp.py",
        "loops.soups.recalibrate": "calls a function of the user's: tests/loops/test_soups.py",
        "loops.soups.at_once": "trains: tests/loops/test_soups.py",
        "loops.soups.in_turn": "trains: tests/loops/test_soups.py",
        "loops.soups.vary": "takes a recipe: tests/loops/test_soups.py",
        "loops.soups.search": "a search, and checks as imp does",
        "loops.soups.greedy": "takes functions: tests/loops/test_soups.py",
        "loops.soups.soup_train": "takes functions: tests/loops/test_soups.py",
        "loops.soups.uniform": "takes functions: tests/loops/test_soups.py",
        "training.fit": "takes a recipe: tests/training/test_fit.py",
        "tickets.fingerprint": "takes any pytree",
        "training.scan_train": "takes a recipe: tests/training/test_fit.py",
        "training.train_fn": "takes what they give: tests/training/test_fit.py",
    }
)
ELSEWHERE = (
    "errors.",
    "sharding.",
    "training.nonfinite.",
)  # tests/sharding/test_state.py, tests/test_loops_*.py
# Classes that check what they are made of; all others are results, protocols and files.
CLASSES = {"tickets.Ticket"}


def public(module):
    """Names and callables that a module's `__all__` lists, and those of the public modules in it."""
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            yield from public(value)
        elif callable(value) and not hasattr(value, "__origin__"):  # no alias of a type
            yield f"{module.__name__}.{name}".removeprefix("jaxticket."), value


def test_every_public_function_has_a_row():
    named = {}
    for name, value in public(jaxticket):
        if not inspect.isclass(value) or name in CLASSES:
            named.setdefault(id(value), set()).add(name)
    missing = [names for names in named.values() if not names & {*TABLE, *EXEMPT}]
    assert [names for names in missing if not any(name.startswith(ELSEWHERE) for name in names)] == []
    assert {*TABLE, *EXEMPT} <= set().union(*named.values())
    assert len(TABLE) > 150


def attempt(call, arguments):
    """Under jit wherever shapes suffice: what is wrong is then found while tracing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call.function(**arguments) if call.eager else jax.eval_shape(lambda: call.function(**arguments))


def complaint(name, argument, wrong):
    """What is to be said against how a function takes a wrong value, or None."""
    call = TABLE[name]
    where = f"{name}({argument}: {wrong.what})"
    try:
        attempt(call, {**{key: role.value for key, role in call.arguments.items()}, argument: wrong.value})
    except JaxticketError as error:
        if not isinstance(error, ValueError | TypeError) or not str(error):
            return f"{where} ends in {error!r}"
        if wrong.refused and wrong.leaf is not None and wrong.leaf not in str(error):
            return f"{where} does not name the leaf {wrong.leaf}: {error}"
    except Exception as error:
        return f"{where} ends in {type(error).__name__}: {error}"
    else:
        if wrong.refused:
            return f"{where} is taken in silence"
    return None


def complaints(name, every=1):
    """Against each wrong value of each argument, or every so many of them."""
    cases = [(argument, wrong) for argument, role in TABLE[name].arguments.items() for wrong in role.wrong()]
    return [found for case in cases[::every] if (found := complaint(name, *case))]


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_all_that_is_wrong(name):
    attempt(TABLE[name], {key: role.value for key, role in TABLE[name].arguments.items()})
    assert complaints(name) == []


@pytest.mark.parametrize("name", ["masks.apply_mask", "filters.only", "allocate.rules", "schedules.cubic"])
def test_a_sample(name):
    assert complaints(name, every=4) == []


@pytest.mark.parametrize(
    ("careless", "words"),
    [
        (lambda params, mask: None, "in silence"),
        (lambda params, mask: params["a"]["kernel"].sum(), "ends in AttributeError"),
    ],
)
def test_a_function_that_checks_nothing_is_found(monkeypatch, careless, words):
    monkeypatch.setitem(TABLE, "masks.apply_mask", TABLE["masks.apply_mask"]._replace(function=careless))
    assert any(words in found for found in complaints("masks.apply_mask"))
