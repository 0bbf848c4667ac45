"""Hold methods that choose at once or in rounds (masks before training, searches, examples) against transcriptions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import registry, scores
from tests.reference import write
from tests.reference.comparing import assert_follows
from tests.reference.library import decoders, examples, parts, recurrences, searches, tunings, widths
from tests.reference.library.classifier import BATCHES, NETWORK, PARAMS, apply, count, criterion
from tests.reference.network import SHAPES, shares

FILES = write.files("rounds")
MODULES = (parts, searches, examples, recurrences, widths, decoders, tunings)
LIBRARY = {name: choose for module in MODULES for name, choose in module.LIBRARY.items()}


@pytest.fixture
def seen(monkeypatch):
    """The masks and scores of each call of a score, of which the random one takes the problem's numbers."""
    calls = []

    def recording(score):
        def scored(params, *, mask=None, **signals):
            calls.append((mask, score(params, mask=mask, **signals)))
            return calls[-1][1]

        return scored

    for name in ("snip", "grasp", "synflow"):
        make = getattr(scores, name)
        monkeypatch.setattr(scores, name, lambda *args, make=make, **options: recording(make(*args, **options)))
    numbers = {name: jnp.asarray(u, jnp.float32) for name, u in NETWORK.numbers.items()}
    monkeypatch.setattr(scores, "random", recording(lambda params, **_: {**dict.fromkeys(params), **numbers}))
    return calls


def choose(method: str, density: float, seen: list) -> list[dict]:
    """The rounds in which the method of the registry chooses its mask."""
    setting = registry.Setting(density, 1000, apply, criterion, lambda batch: batch[0], BATCHES)
    tx = jt.sparsify(optax.identity(), registry.get(method).make(setting), key=jax.random.key(0))
    params, state = jt.init(tx, PARAMS)
    final = jt.mask_of(state)
    for name in SHAPES:
        np.testing.assert_array_equal(params[name], PARAMS[name] * final[name])
    rounds = [{"mask": mask, "living": count(mask)} for mask in (*(before for before, _ in seen[1:]), final)]
    for kept, (before, values) in zip(rounds, seen, strict=False):
        among = dict.fromkeys(SHAPES, 1) if method == "force" else before  # FORCE scores what is pruned, too
        kept["scores"] = shares({name: np.asarray(values[name] * among[name], float) for name in SHAPES})
    return rounds


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_library_chooses_as_published(path, seen):
    trace = write.read(path)
    method, settings = trace["method"], trace["settings"]
    ours = LIBRARY[method](**settings) if method in LIBRARY else choose(method, **settings, seen=seen)
    assert_follows(ours, trace["rounds"], rtol=1e-4)


def test_weights_return_in_the_rounds_of_force_alone():
    def nested(name):
        masks = [round["mask"] for round in write.read(write.TRACES / f"{name}.json")["rounds"]]
        pairs = [(new[leaf], old[leaf]) for old, new in itertools.pairwise(masks) for leaf in SHAPES]
        return all((np.array(new) <= np.array(old)).all() for new, old in pairs)

    assert nested("iterative_snip")
    assert nested("synflow")
    assert not nested("force")
