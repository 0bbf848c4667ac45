"""The cost of a step for each device, from its compiled program: nothing is allocated, and no device need exist."""

import collections
import functools
from typing import Any

import jax
import optax
from jax.sharding import NamedSharding, PartitionSpec

from experiments.reports import tables
from experiments.studies.imagenet import reading
from experiments.studies.imagenet.config import Config
from experiments.studies.imagenet.program import Carry, Program, laid_out
from jaxticket import sharding

_QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # nothing is run
_MIB = 2**20


def flops(program: Program) -> float:
    """Return the FLOPs of a step on all devices, before the compiler has seen it."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (program.carry, program.batch))
    lowered = jax.jit(functools.partial(program.step_with, program.transform())).lower(*shapes)
    return float(lowered.cost_analysis()["flops"])


def table(config: Config, mesh: jax.sharding.Mesh) -> str:
    """Return collectives, FLOPs and bytes of a step on each device of the mesh: of plain optax, and under the plan."""
    program = Program(config, mesh, examples=reading.EXAMPLES, classes=reading.CLASSES)
    costs = [_costs(program, tx) for tx in (program.inner(), program.transform())]
    rows = [(what, *(cost.get(what, "–") for cost in costs)) for what in sorted({*costs[0], *costs[1]}, key=_order)]
    axes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    title = f"{config.model}, batch {config.batch_size}, on {mesh.size} devices ({axes}): a step of each device"
    return tables.grid(("", "plain optax", config.method), rows, title=title) + (
        "Collectives: how many the program holds, and the bytes of their results. Those in a loop or in a\n"
        "branch, such as a refresh of the mask, are counted once. FLOPs are those of the partitioned program.\n"
    )


def _costs(program: Program, tx: optax.GradientTransformation) -> dict[str, str]:
    compiled = _lowered(program, tx).compile(_QUICK)
    sizes = collections.defaultdict(list)
    for name, size in sharding.collectives(compiled):
        sizes[name].append(size)
    memory = compiled.memory_analysis()
    return {
        **{name: f"{len(moved):,} × = {sum(moved) / _MIB:,.2f} MiB" for name, moved in sizes.items()},
        "smallest collectives": f"{sum(size <= 1024 for moved in sizes.values() for size in moved):,} of at most 1 KiB",
        "GFLOP": f"{compiled.cost_analysis()['flops'] / 1e9:,.5g}",
        "weights, optimizer, batch": f"{memory.argument_size_in_bytes / _MIB:,.1f} MiB",
        "temporaries": f"{memory.temp_size_in_bytes / _MIB:,.1f} MiB",
    }


def _order(what: str) -> tuple[bool, bool, str]:
    return " " in what, what[0].isupper(), what


def _lowered(program: Program, tx: optax.GradientTransformation) -> Any:
    """Lower a step by this optimizer, for arrays that lie as the program's do."""
    params, state, _ = program.carry
    places = program.places._replace(opt_state=sharding.state_shardings(tx, params, program.places.params))
    carry = Carry(params, state, laid_out(jax.eval_shape(tx.init, params), places.opt_state))
    everywhere = NamedSharding(program.batch["label"].sharding.mesh, PartitionSpec())
    step = functools.partial(program.step_with, tx)
    return jax.jit(step, donate_argnums=0, out_shardings=(places, everywhere)).lower(carry, program.batch)
