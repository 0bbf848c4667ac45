"""Methods whose mask changes during the training.

Where papers refresh every some hundreds of steps, a method here does at every hundredth part of the training, and stops
after three quarters of it (RigL: 25,000 of 32,000 steps). SET follows RigL's schedule, as in the comparison of Evci et
al. (2020). Gradual pruning goes from a tenth of the training to three quarters, which leaves a quarter to recover.
ITOP, GraNet and MEST refresh 65, 60 and 32 times, as in trainings of 250 and 160 epochs on CIFAR; GraNet prunes in the
first 11/16 (110 of 160 epochs). AC/DC has its default phases, and ISS-P shrinks for half of the training. Top-KAST
trains twice the weights that it uses.
"""

import functools

import jax.numpy as jnp

from jaxticket import schedules, scopes, units
from jaxticket.registry.method import Method, Setting
from jaxticket.reparam import sr_ste, straight_through, top_kast
from jaxticket.scopes import Scope
from jaxticket.transforms import Plan, ac_dc, gradual, granet, iss_p, itop, mest, rigl, snfs, sparse_evolutionary
from jaxticket.units import Unit

__all__ = ["METHODS"]

_during = functools.partial(Method, when="during")


def _gradual(s: Setting, scope: Scope = scopes.leaf()) -> Plan:
    return gradual(s.density, start=s.part(0.1), stop=s.part(0.75), every=s.part(0.01), scope=scope)


def _set(s: Setting) -> Plan:
    stop = s.part(0.75)
    fraction = schedules.cosine(0.3, stop=stop)
    return sparse_evolutionary(s.density, drop_fraction=fraction, every=s.part(0.01), stop=stop)


def _rigl(s: Setting, unit: Unit = units.element()) -> Plan:
    return rigl(s.density, stop=s.part(0.75), every=s.part(0.01), unit=unit)


METHODS = (
    _during(
        name="gradual",
        paper="Zhu & Gupta 2017, gradual pruning",
        unit="element",
        scope="leaf",
        data="none",
        needs=frozenset(),
        regrows=False,
        arguments="gradual(density, start=100, stop=750, every=10)",
        evidence=("tests/transforms/test_plans.py", "tests/conformance", "tests/science/test_gradual.py"),
        make=_gradual,
    ),
    _during(
        name="global_gradual",
        paper="Gupta et al. 2022, Global MP (gradual)",
        unit="element",
        scope="tree",
        data="none",
        needs=frozenset(),
        regrows=False,
        arguments="gradual(density, start=100, stop=750, every=10, scope=scopes.tree())",
        evidence=("tests/transforms/test_dynamic.py", "tests/golden/schedules.json"),
        make=lambda s: _gradual(s, scopes.tree()),
    ),
    _during(
        name="iss_p",
        paper="Wang et al. 2023, ISS-P",
        unit="element",
        scope="leaf",
        data="none",
        needs=frozenset(),
        regrows=False,
        arguments="iss_p(density, stop=500)",
        evidence=("tests/transforms/test_dynamic.py", "tests/golden/dynamic.json", "tests/conformance"),
        make=lambda s: iss_p(s.density, stop=s.part(0.5)),
    ),
    _during(
        name="ac_dc",
        paper="Peste et al. 2021, AC/DC",
        unit="element",
        scope="tree",
        data="none",
        needs=frozenset(),
        regrows=True,
        arguments="ac_dc(density, steps=1000)",
        evidence=("tests/transforms/test_dynamic.py", "tests/science/test_dynamic.py", "tests/conformance"),
        make=lambda s: ac_dc(s.density, steps=s.steps),
    ),
    _during(
        name="sparse_evolutionary",
        paper="Mocanu et al. 2018, SET",
        unit="element",
        scope="leaf",
        data="none",
        needs=frozenset({"key"}),
        regrows=True,
        arguments="sparse_evolutionary(density, drop_fraction=schedules.cosine(0.3, stop=750), every=10, stop=750)",
        evidence=("tests/golden/dynamic.json", "tests/science/test_dynamic.py", "tests/conformance"),
        make=_set,
    ),
    _during(
        name="rigl",
        paper="Evci et al. 2020, RigL",
        unit="element",
        scope="leaf",
        data="batch",
        needs=frozenset({"gradients", "key"}),
        regrows=True,
        arguments="rigl(density, stop=750, every=10)",
        evidence=("tests/golden/dynamic.json", "tests/science/test_dynamic.py", "tests/conformance"),
        make=_rigl,
    ),
    _during(
        name="rigl_blocks",
        paper="Evci et al. 2020, RigL on blocks of 4 × 4",
        unit="block",
        scope="leaf",
        data="batch",
        needs=frozenset({"gradients", "key"}),
        regrows=True,
        arguments="rigl(density, stop=750, every=10, unit=units.block(4, 4))",
        evidence=("tests/transforms/test_dynamic.py", "tests/conformance"),
        make=lambda s: _rigl(s, units.block(4, 4)),
    ),
    _during(
        name="snfs",
        paper="Dettmers & Zettlemoyer 2019, SNFS",
        unit="element",
        scope="tree",
        data="batch",
        needs=frozenset({"gradients", "key"}),
        regrows=True,
        arguments="snfs(density, stop=1000, every=10)",
        evidence=("tests/transforms/test_dynamic.py", "tests/conformance"),
        make=lambda s: snfs(s.density, stop=s.steps, every=s.part(0.01)),
    ),
    _during(
        name="itop",
        paper="Liu et al. 2021, ITOP (with SET)",
        unit="element",
        scope="leaf",
        data="none",
        needs=frozenset({"key"}),
        regrows=True,
        arguments="itop(density, steps=1000, every=15)",
        evidence=("tests/transforms/test_dynamic.py", "tests/conformance"),
        make=lambda s: itop(s.density, steps=s.steps, every=s.part(1 / 65)),
    ),
    _during(
        name="granet",
        paper="Liu et al. 2021, GraNet (sparse to sparse)",
        unit="element",
        scope="tree",
        data="batch",
        needs=frozenset({"gradients", "key"}),
        regrows=True,
        arguments="granet(density, stop=688, steps=1000, every=17)",
        evidence=("tests/transforms/test_dynamic.py", "tests/conformance"),
        make=lambda s: granet(s.density, stop=s.part(11 / 16), steps=s.steps, every=s.part(1 / 60)),
    ),
    _during(
        name="mest",
        paper="Yuan et al. 2021, MEST",
        unit="element",
        scope="leaf",
        data="batch",
        needs=frozenset({"gradients", "key"}),
        regrows=True,
        arguments="mest(density, stop=750, every=31)",
        evidence=("tests/transforms/test_dynamic.py", "tests/conformance"),
        make=lambda s: mest(s.density, stop=s.part(0.75), every=s.part(1 / 32)),
    ),
    _during(
        name="ste",
        paper="Bengio et al. 2013, straight-through estimator",
        unit="element",
        scope="leaf",
        data="none",
        needs=frozenset(),
        regrows=True,
        arguments="reparam.straight_through(density)",
        evidence=("tests/reparam/test_reparam.py", "tests/golden/reparam.json", "tests/science/test_dynamic.py"),
        make=lambda s: straight_through(s.density),
    ),
    _during(
        name="sr_ste",
        paper="Zhou et al. 2021, SR-STE (N of 4)",
        unit="element",
        scope="groups",
        data="none",
        needs=frozenset(),
        regrows=True,
        arguments="reparam.sr_ste(density)",
        evidence=("tests/reparam/test_reparam.py", "tests/golden/reparam.json"),
        make=lambda s: sr_ste(s.density),
    ),
    _during(
        name="top_kast",
        paper="Jayakumar et al. 2020, Top-KAST",
        unit="element",
        scope="leaf",
        data="none",
        needs=frozenset(),
        regrows=True,
        arguments="reparam.top_kast(density, backward=min(1, 2 * density))",
        evidence=("tests/reparam/test_reparam.py", "tests/golden/reparam.json"),
        make=lambda s: top_kast(s.density, backward=jnp.minimum(1, 2 * s.density)),
    ),
)
