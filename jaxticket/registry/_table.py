"""The table of methods.

BiP is not here, since it starts from trained weights; nor are methods whose sparsity a penalty or a threshold decides.
Draw the weights of strong tickets as the papers do (`reparam.signed_constant`, `reparam.kaiming_normal`), and train
their scores by SGD with a cosine: learning rate 0.1, momentum 0.9, weight decay 1e-4 to 5e-4.
"""

import difflib
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import allocate, reparam, schedules, scopes, scores, units
from jaxticket.errors import InputError
from jaxticket.registry._method import Method, Setting
from jaxticket.transforms import (
    Plan,
    ac_dc,
    gradual,
    granet,
    granet_uniform,
    iss_p,
    itop,
    mest,
    rigl,
    snfs,
    sparse_evolutionary,
    static,
)
from jaxticket.transforms._lengths import part
from jaxticket.typing import Params, ScoreFn

_KEY, _GRADIENTS = frozenset({"key"}), frozenset({"gradients"})
_BOTH = _KEY | _GRADIENTS
_AT_INIT = ("tests/scores/test_probe.py", "tests/science/test_at_init.py")
_ITERATED = ("tests/scores/test_probe.py", "tests/transforms/test_start.py")
_PLANS = ("tests/transforms/test_dynamic.py", "tests/conformance")
_GRANET = ("tests/transforms/test_newborn.py", "tests/transforms/test_dynamic.py", "tests/conformance")
_MEST = ("tests/transforms/test_mest.py", "tests/conformance")
_STRONG = ("tests/reparam/test_supermask.py", "tests/golden/supermask.json", "tests/science/test_supermasks.py")
_LATENT = ("tests/reparam/test_reparam.py", "tests/golden/reparam.json")

Entry = tuple[str, Callable[[Setting], Any]]  # the code shown, and what it makes


def _plan(alias: Callable[..., Any], shown: str = "", **options: Any) -> Entry:
    """An alias that derives its schedule from the length of the training."""
    return f"{alias.__name__}(density, steps=1000{shown})", lambda s: alias(s.density, steps=s.steps, **options)


def _latent(method: Callable[..., Any], shown: str = "", **options: Callable[[Any], Any]) -> Entry:
    """A reparametrisation without a schedule; options are functions of the density."""
    make = lambda s: method(s.density, **{name: of(s.density) for name, of in options.items()})
    return f"reparam.{method.__name__}(density{shown})", make


def _at_temperature_200(s: Setting) -> Callable[[Params, Any], jax.Array]:
    """The loss at temperature 200, at which the outputs of an untrained network are near uniform (GraSP's code)."""
    return functools.partial(s.train_loss, temperature=200.0)


def _snip(s: Setting) -> ScoreFn:
    return scores.snip(s.loss, s.batches)


def _snip_in_rounds(s: Setting) -> ScoreFn:
    """In training mode, on the next batch in each round (de Jorge et al., 2021)."""
    return scores.snip(s.train_loss, s.batches, each_round=1)


def _synflow(s: Setting) -> ScoreFn:
    return scores.synflow(s.apply, s.inputs(s.batches[0]))


def _set(s: Setting) -> Plan:
    """The drop fraction falls as RigL's, as in the comparison of Evci et al. (2020)."""
    fraction = schedules.cosine(0.3, stop=part(s.steps, 0.75))
    return sparse_evolutionary(s.density, steps=s.steps, drop_fraction=fraction)


_tree = scopes.tree()
_before = functools.partial(Method, when="before")
_global = functools.partial(_before, scope="tree")
_probe = functools.partial(_global, data="batch", needs=_GRADIENTS)
_evolving = functools.partial(Method, regrows=True)
_by_gradient = functools.partial(_evolving, data="batch", needs=_BOTH)

_ROWS = (
    _before(
        "random", "Liu et al. 2022, random pruning (uniform)",
        "static(density, score=scores.random)", lambda s: static(s.density, score=scores.random),
        ("tests/selection/test_select.py", "tests/science/test_at_init.py"), needs=_KEY,
    ),
    _before(
        "random_erk", "Liu et al. 2022, random pruning (ERK)",
        "static(density, score=scores.random, allocate=allocate.erk)",
        lambda s: static(s.density, score=scores.random, allocate=allocate.erk),
        ("tests/golden/allocate.json", "tests/science/test_dynamic.py"), needs=_KEY,
    ),
    _global(
        "magnitude", "Frankle et al. 2021, magnitude at initialisation",
        "static(density, scope=scopes.tree())", lambda s: static(s.density, scope=_tree),
        ("tests/selection/test_select.py", "tests/science/test_at_init.py"),
    ),
    _probe(
        "snip", "Lee et al. 2019, SNIP",
        "static(density, score=scores.snip(loss, batches), scope=scopes.tree())",
        lambda s: static(s.density, score=_snip(s), scope=_tree), _AT_INIT,
    ),
    _probe(
        "grasp", "Wang et al. 2020, GraSP",
        "static(density, score=scores.grasp(loss_of_logits_over_200, batches), scope=scopes.tree())",
        lambda s: static(s.density, score=scores.grasp(_at_temperature_200(s), s.batches), scope=_tree),
        ("tests/scores/test_probe.py", "tests/golden/probe.json"), needs=_GRADIENTS | {"hessian"},
    ),
    _global(
        "synflow", "Tanaka et al. 2020, SynFlow",
        "static(density, score=scores.synflow(apply, x), scope=scopes.tree(), rounds=100)",
        lambda s: static(s.density, score=_synflow(s), scope=_tree, rounds=100), _AT_INIT,
    ),
    _probe(
        "iterative_snip", "de Jorge et al. 2021, iterative SNIP",
        "static(density, score=scores.snip(loss, batches, each_round=1), scope=scopes.tree(), rounds=60)",
        lambda s: static(s.density, score=_snip_in_rounds(s), scope=_tree, rounds=60), _ITERATED,
    ),
    _probe(
        "force", "de Jorge et al. 2021, FORCE",
        "static(density, score=scores.snip(loss, batches, each_round=1), scope=scopes.tree(), rounds=60, revive=True)",
        lambda s: static(s.density, score=_snip_in_rounds(s), scope=_tree, rounds=60, revive=True), _ITERATED,
    ),
    Method("gradual", "Zhu & Gupta 2017, gradual pruning", *_plan(gradual), ("tests/transforms/test_plans.py",)),
    Method(
        "global_gradual", "Gupta et al. 2022, Global MP (gradual)",
        *_plan(gradual, ", scope=scopes.tree()", scope=_tree), _PLANS, scope="tree",
    ),
    Method("iss_p", "Wang et al. 2023, ISS-P", *_plan(iss_p), _PLANS),
    _evolving("ac_dc", "Peste et al. 2021, AC/DC", *_plan(ac_dc), _PLANS, scope="tree"),
    _evolving(
        "sparse_evolutionary", "Mocanu et al. 2018, SET",
        "sparse_evolutionary(density, steps=1000, drop_fraction=schedules.cosine(0.3, stop=750))",
        _set, _PLANS, needs=_KEY,
    ),
    _by_gradient("rigl", "Evci et al. 2020, RigL", *_plan(rigl), _PLANS),
    _by_gradient(
        "rigl_blocks", "Evci et al. 2020, RigL on blocks of 4 × 4",
        *_plan(rigl, ", unit=units.block(4, 4)", unit=units.block(4, 4)), _PLANS, unit="block",
    ),
    _by_gradient("snfs", "Dettmers & Zettlemoyer 2019, SNFS", *_plan(snfs), _PLANS, scope="tree"),
    _evolving("itop", "Liu et al. 2021, ITOP (with SET)", *_plan(itop), _PLANS, needs=_KEY),
    _by_gradient("granet", "Liu et al. 2021, GraNet (sparse to sparse)", *_plan(granet), _GRANET, scope="tree"),
    _by_gradient("granet_uniform", "Liu et al. 2021, GraNet (each leaf apart)", *_plan(granet_uniform), _GRANET),
    _evolving("mest", "Yuan et al. 2021, MEST (EM)", *_plan(mest), _MEST, needs=_KEY),
    _evolving(
        "mest_soft", "Yuan et al. 2021, MEST (EM&S)",
        *_plan(mest, ", drop_fraction=0.0, excess=0.5", drop_fraction=0.0, excess=0.5), _MEST, needs=_KEY,
    ),
    _evolving("ste", "Bengio et al. 2013, straight-through estimator", *_latent(reparam.straight_through), _LATENT),
    _evolving("sr_ste", "Zhou et al. 2021, SR-STE (N of 4)", *_latent(reparam.sr_ste), _LATENT, scope="groups"),
    _evolving(
        "top_kast", "Jayakumar et al. 2020, Top-KAST",
        *_latent(reparam.top_kast, ", backward=min(1, 2 * density)", backward=lambda d: jnp.minimum(1, 2 * d)), _LATENT,
    ),
    _evolving(
        "pdp", "Cho et al. 2023, PDP",
        "reparam.pdp(density, steps=1000, temperature=lambda square: 0.05 * square)",
        lambda s: reparam.pdp(s.density, steps=s.steps, temperature=lambda square: 0.05 * square),
        ("tests/reparam/test_soft.py", "tests/golden/soft.json", "tests/science/test_soft.py"), scope="tree",
    ),
    _by_gradient("edge_popup", "Ramanujan et al. 2020, edge-popup", *_latent(reparam.edge_popup), _STRONG),
    _by_gradient("biprop", "Diffenderfer & Kailkhura 2021, Biprop", *_latent(reparam.biprop), _STRONG),
)  # fmt: skip

METHODS: Mapping[str, Method] = MappingProxyType({m.name: m for m in _ROWS})


def get(name: str) -> Method:
    """Return the method of this name.

    Args:
      name: a name in `METHODS`.

    Returns:
      The method.

    Raises:
      InputError: an unknown name; the message gives those that are spelt alike.

    Examples:
      >>> get("rigl").paper
      'Evci et al. 2020, RigL'
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS) or METHODS
        raise InputError(f"method {name!r} is not in the registry; perhaps one of these was meant: {', '.join(near)}")
    return METHODS[name]
