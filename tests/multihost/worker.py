"""What one process of a run does: `layouts.launch` starts as many as a layout has.

    python worker.py OUT REDUCTION SEED COORDINATOR PROCESSES PROCESS

Selects, searches for tickets and trains sparsely on the digits, on all devices of all processes, and leaves tickets and
results.json in OUT.
"""

import dataclasses
import json
import pathlib
import sys

from jaxticket import training

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from experiments.runs import processes
from experiments.runs.config import Training
from experiments.runs.processes import Pod
from experiments.training import problems
from jaxticket import loops, scopes, tickets

STEPS, SEARCHED = 200, 100  # steps of a sparse training, and of a level of the search
DENSITIES = (1.0, 0.5, 0.2)
PLANS = {
    "rigl": lambda: jt.rigl(0.1, stop=150, every=10),
    "granet": lambda: jt.granet(0.1, stop=100, steps=STEPS, every=10),
}
SCOPES = {"tree": scopes.tree(), "leaf": scopes.leaf(), "layers": scopes.slices(0)}


def scores(mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """The same numbers everywhere, with many ties, each device holding a part: `stack` has a layer on each row."""
    rng = np.random.default_rng(0)
    values = {"stack": rng.integers(0, 50, (8, 16, 24)), "kernel": rng.integers(0, 50, (64, 40))}
    return jax.device_put(jax.tree.map(np.float32, values), NamedSharding(mesh, P("data")))


def select(mesh: jax.sharding.Mesh) -> dict[str, dict[str, jax.Array]]:
    """The mask of each scope, and of a drop and grow."""
    given = scores(mesh)
    masks = {name: jt.select(given, 0.3, scope=scope) for name, scope in SCOPES.items()}
    growing = jax.tree.map(jnp.negative, given)
    evolved = jt.drop_and_grow(masks["leaf"], drop=given, grow=growing, drop_fraction=0.4)
    return {**masks, "evolved": evolved}


def search(basis: problems.Basis, key: jax.Array, out: pathlib.Path) -> dict[str, float]:
    """Three levels of iterative magnitude pruning, kept in a store."""
    params, state = basis.init(key)
    ticket = jt.Ticket(params, jt.filters.full_mask(params, jt.filters.weights()), state=state)
    train = training.train_fn(training.fit(basis.recipe), steps=SEARCHED, evaluate=basis.evaluate)
    prune = loops.prune_by(scope=scopes.tree())
    store = tickets.Store(out / "imp")
    levels = list(jt.imp(train, ticket, densities=DENSITIES, prune=prune, key=key, store=store))
    return levels[-1].trained.metrics


def train(name: str, basis: problems.Basis, key: jax.Array, out: pathlib.Path) -> dict[str, float]:
    """A sparse training; its ticket holds the trained weights and their mask."""
    tx = lambda rate: jt.sparsify(optax.adam(rate), PLANS[name](), key=key)
    recipe = dataclasses.replace(basis.recipe, optimizer=tx)
    params, opt_state = jax.jit(lambda p: jt.init(tx(recipe.learning_rate), p))(basis.init(key)[0])
    nothing = jax.tree.map(lambda _: None, params)  # the optimizer masks
    fitted = training.fit(recipe)(params, None, nothing, key, step=0, steps=STEPS, opt_state=opt_state)
    tickets.save(out / name, jt.Ticket(fitted.params, jt.mask_of(fitted.opt_state), STEPS))
    return basis.evaluate(fitted.params, fitted.state)


def main() -> None:
    out, reduction, seed, coordinator, count, process = sys.argv[1:]
    out = pathlib.Path(out)
    if int(count) > 1:
        processes.start(Pod(coordinator=coordinator, num_processes=int(count), process_id=int(process)))
    basis = problems.basis(Training(batch_size=64, placement="data", reduction=reduction))
    key = jax.random.key(int(seed))
    selected = select(basis.recipe.mesh)
    tickets.save(out / "masks", jt.Ticket({name: scores(basis.recipe.mesh) for name in selected}, selected))
    results = {"imp": search(basis, key, out), **{name: train(name, basis, key, out) for name in PLANS}}
    if processes.is_main():
        (out / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
