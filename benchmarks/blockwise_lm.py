"""The pruning of a Llama of 7 billion parameters, block by block, on 256 devices that need not exist.

Programs are compiled from shapes, not run: what each device holds and moves while a block is pruned, for each eight
calibration sequences of 2,048 tokens. Kernels of bfloat16 are split over 32 devices by heads and hidden units,
sequences over 8. The rows are the programs of `prune_blocks` with Wanda: the block that runs, what is measured at its
inputs, and the selection. All 32 blocks share them. A collective in a loop is counted once, MiB are those of a device.
The embedding, 250 MiB in bfloat16, is not counted.
"""

import collections
import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import _harness
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxticket import _tree, filters, models, scopes, sharding
from jaxticket.masks import apply_mask
from jaxticket.scores._wanda import find_inputs, score_weight
from jaxticket.selection import select

COMPILER = {"xla_backend_optimization_level": "0"}  # of the code of each device, which moves nothing
SIZES = {"vocabulary": 32_000, "layers": 1, "heads": 32, "width": 4096, "hidden": 11_008}
QUICK = {"vocabulary": 64, "layers": 1, "heads": 4, "width": 32, "hidden": 48}
RULES = {  # as in Megatron: inputs of a block on all devices, its heads and hidden units apart
    "attention/(query|key|value)/kernel": P(None, "model", None),
    "attention/out/kernel": P("model", None, None),
    "mlp/(gate|hidden)/kernel": P(None, "model"),
    "mlp/output/kernel": P("model", None),
    ".*": P(),
}
MIB = 2**20


def programs(sizes: dict[str, int], sequences: int, tokens: int, mesh: jax.sharding.Mesh) -> Iterator[tuple[str, Any]]:
    """Yield the name and the lowered program of each step of a block."""
    model = models.decoder(**sizes)
    shapes = jax.eval_shape(model.init, jax.random.key(0))[0]["blocks"]["block1"]
    layout = sharding.tensor_parallel(shapes, mesh, RULES)
    block = jax.tree.map(lambda p, place: _shape(p.shape, place), shapes, layout)
    stream = _shape((sequences, tokens, sizes["width"]), NamedSharding(mesh, P("data", None, None)))
    run = model.stages.block
    yield "the block runs", jax.jit(run).lower(block, stream)
    measure = jax.jit(functools.partial(find_inputs, run))
    yield "Wanda measures", measure.lower(block, stream)
    yield (
        "Wanda selects 50 %",
        jax.jit(functools.partial(_select, None)).lower(block, measure.eval_shape(block, stream)),
    )
    yield "Wanda selects 2:4", jax.jit(functools.partial(_select, 4)).lower(block, measure.eval_shape(block, stream))


def _select(group: int | None, params: Any, totals: Any) -> Any:
    chosen = filters.only(params, filters.weights())
    scored = _tree.tree_map(lambda p, total: None if p is None else score_weight(p, total), chosen, totals)
    mask = select(scored, 0.5, scope=scopes.slices() if group is None else scopes.groups(group))
    return apply_mask(params, mask), mask


def row(name: str, lower: Callable[[], Any]) -> dict[str, Any]:
    """Return what a program holds and moves on a device."""
    began = time.perf_counter()
    compiled = lower().compile(COMPILER)
    seconds, memory = time.perf_counter() - began, compiled.memory_analysis()
    moved = collections.defaultdict(list)
    for kind, size in sharding.collectives(compiled):
        moved[kind].append(size)
    return {
        "program": name,
        "collectives": ", ".join(f"{len(sizes)} {kind}" for kind, sizes in moved.items()) or "none",
        "moved MiB": sum(map(sum, moved.values())) / MIB,
        "arguments MiB": memory.argument_size_in_bytes / MIB,
        "temporaries MiB": memory.temp_size_in_bytes / MIB,
        "results MiB": memory.output_size_in_bytes / MIB,
        "compiled in s": seconds,
    }


def _shape(shape: tuple[int, ...], place: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place)


def main() -> None:
    args = _harness.arguments(__doc__)
    split = (2, 4) if args.quick else (8, 32)
    jax.config.update("jax_num_cpu_devices", math.prod(split))
    busy = _harness.Busy()
    mesh = jax.make_mesh(split, ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    sizes, sequences, tokens = (QUICK, 4, 16) if args.quick else (SIZES, 8, 2048)
    rows = [row(name, lambda lowered=lowered: lowered) for name, lowered in programs(sizes, sequences, tokens, mesh)]
    _harness.report("blockwise_lm", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
