"""Rows of functions of traced groups."""

import jax.numpy as jnp

from jaxticket import structure
from tests.conformance.bad_input.roles import Count, Fraction, Tree
from tests.conformance.bad_input.values import PARAMS, SCORES, Call, call, on_host


def network(params, x):
    return jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"][None]) @ params["b"]["kernel"]


GROUPS = structure.trace(network, PARAMS, jnp.ones((1, 4)))
POOLED = {"a/kernel:1": jnp.arange(6.0)}
KEPT = {"a/kernel:1": jnp.arange(6) > 1}

STRUCTURED: dict[str, Call] = {
    "structure.choose": on_host(
        lambda budget, cap, multiple: structure.choose(POOLED, GROUPS, budget, cap=cap, multiple=multiple),
        budget=Fraction(0.5),
        cap=Fraction(0.9),
        multiple=Count(1),
    ),
    "structure.group_magnitude": call(
        lambda params: structure.group_magnitude(params, GROUPS), params=Tree(PARAMS, paired=False)
    ),
    "structure.pool": call(lambda scores: structure.pool(scores, GROUPS), scores=Tree(SCORES, paired=False)),
    "structure.spread": call(lambda like: structure.spread(KEPT, GROUPS, like), like=Tree(PARAMS, paired=False)),
    "structure.trace": on_host(
        lambda variables: structure.trace(network, variables, jnp.ones((1, 4))), variables=Tree(PARAMS, used=True)
    ),
}
EXEMPT_STRUCTURED = {
    "export.load_weights": "a file: tests/export/test_weights.py",
    "export.save_program": "a file: tests/export/test_program.py",
    "export.save_weights": "a file: tests/export/test_weights.py",
    "export.write_report": "a file: tests/export/test_report.py",
    "structure.channels": "takes masks: tests/structure/test_channels.py",
    "structure.expand": "takes what shrink gives",
    "structure.latency": "measures: tests/structure/test_latency.py",
    "structure.replay": "makes a function: tests/structure/test_channels.py",
    "structure.shrink": "takes masks and any tree: tests/structure/test_states.py",
    "structure.unit": "takes what trace gives",
    "structure.vote": "takes masks: tests/structure/test_votes.py",
}
