"""Methods that choose the mask before the training, on the first weights, and keep it.

Scores that need data take all batches of the setting at once; SynFlow has the 100 rounds of its paper, FORCE and
iterative SNIP the 60 of theirs.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxticket import allocate, scopes, scores
from jaxticket.registry.method import Method, Setting
from jaxticket.transforms import static
from jaxticket.typing import Params

__all__ = ["METHODS"]

_before = functools.partial(Method, unit="element", when="before", regrows=False)

METHODS = (
    _before(
        name="random",
        paper="Liu et al. 2022, random pruning (uniform)",
        scope="leaf",
        data="none",
        needs=frozenset({"key"}),
        arguments="static(density, score=scores.random)",
        evidence=("tests/selection/test_select.py", "tests/science/test_at_init.py"),
        make=lambda s: static(s.density, score=scores.random),
    ),
    _before(
        name="static",
        paper="Liu et al. 2022, random pruning (ERK)",
        scope="leaf",
        data="none",
        needs=frozenset({"key"}),
        arguments="static(density, score=scores.random, allocate=allocate.erk)",
        evidence=("tests/golden/allocate.json", "tests/science/test_dynamic.py"),
        make=lambda s: static(s.density, score=scores.random, allocate=allocate.erk),
    ),
    _before(
        name="magnitude",
        paper="Frankle et al. 2021, magnitude at initialisation",
        scope="tree",
        data="none",
        needs=frozenset(),
        arguments="static(density, scope=scopes.tree())",
        evidence=("tests/selection/test_select.py", "tests/science/test_at_init.py"),
        make=lambda s: static(s.density, scope=scopes.tree()),
    ),
    _before(
        name="snip",
        paper="Lee et al. 2019, SNIP",
        scope="tree",
        data="batch",
        needs=frozenset({"gradients"}),
        arguments="static(density, score=scores.snip(loss, batches), scope=scopes.tree())",
        evidence=("tests/scores/test_probe.py", "tests/science/test_at_init.py"),
        make=lambda s: static(s.density, score=scores.snip(s.loss, s.batches), scope=scopes.tree()),
    ),
    _before(
        name="grasp",
        paper="Wang et al. 2020, GraSP",
        scope="tree",
        data="batch",
        needs=frozenset({"gradients", "hessian"}),
        arguments="static(density, score=scores.grasp(loss_of_logits_over_200, batches), scope=scopes.tree())",
        evidence=("tests/scores/test_probe.py", "tests/golden/probe.json"),
        make=lambda s: static(s.density, score=scores.grasp(_tempered(s), s.batches), scope=scopes.tree()),
    ),
    _before(
        name="synflow",
        paper="Tanaka et al. 2020, SynFlow",
        scope="tree",
        data="none",
        needs=frozenset(),
        arguments="static(density, score=scores.synflow(apply, x), scope=scopes.tree(), rounds=100)",
        evidence=("tests/scores/test_probe.py", "tests/science/test_at_init.py"),
        make=lambda s: static(
            s.density, score=scores.synflow(s.apply, s.inputs(s.batches[0])), scope=scopes.tree(), rounds=100
        ),
    ),
    _before(
        name="iterative_snip",
        paper="de Jorge et al. 2021, iterative SNIP",
        scope="tree",
        data="batch",
        needs=frozenset({"gradients"}),
        arguments="static(density, score=scores.snip(loss, batches), scope=scopes.tree(), rounds=60)",
        evidence=("tests/scores/test_probe.py", "tests/transforms/test_start.py"),
        make=lambda s: static(s.density, score=scores.snip(s.loss, s.batches), scope=scopes.tree(), rounds=60),
    ),
    _before(
        name="force",
        paper="de Jorge et al. 2021, FORCE",
        scope="tree",
        data="batch",
        needs=frozenset({"gradients"}),
        arguments="static(density, score=scores.snip(loss, batches), scope=scopes.tree(), rounds=60, revive=True)",
        evidence=("tests/scores/test_probe.py", "tests/transforms/test_start.py"),
        make=lambda s: static(
            s.density, score=scores.snip(s.loss, s.batches), scope=scopes.tree(), rounds=60, revive=True
        ),
    ),
)


def _tempered(s: Setting) -> Callable[[Params, Any], jax.Array]:
    """The loss at temperature 200, at which the outputs of an untrained network are near uniform (GraSP's code)."""
    return lambda params, batch: s.criterion(s.apply(params, s.inputs(batch)) / 200, batch)
