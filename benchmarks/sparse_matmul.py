"""Packed kernels against the dense product, for the layers of a transformer: which form pays, from which sparsity on.

Each form has the mask for which it is made: N:M groups, a constant fan-in, blocks of 32 × 32, and any weights for BCSR.
Monarch kernels, which have no mask, get the least number of blocks that stores no more.
Its number is its time over that of the dense product in the same rounds: below 1 is faster. `again` and `to` are the
quartiles of dense against itself, the control. `fastest` is the choice of `execution.measure`, and what it saves: dense
unless another form is faster beyond the noise in two measurements. Rows with `backward` include both gradients.
"""

import argparse
import math
import statistics

import _harness
import jax

import jaxticket as jt
from jaxticket import execution, scopes, units

LAYERS = {"attention": (768, 768), "up": (768, 3072), "down": (3072, 768)}
BATCHES = (1, 16, 256)
GROUPS = {0.5: (2, 4), 0.75: (1, 4), 0.9: (1, 10), 0.95: (1, 20), 0.99: (1, 100)}  # sparsity -> n of m
FORMS = ("nm", "condensed", "blocks", "bcsr", "monarch")


def pack(shape: tuple[int, int], sparsity: float, side: int) -> dict[str, execution.Packed]:
    """Return a kernel at one sparsity in each form, under a mask of its own."""
    kernel = jax.random.normal(jax.random.key(0), shape) / shape[0] ** 0.5
    scores = jax.random.normal(jax.random.key(1), shape)
    density, (n, m) = 1 - sparsity, GROUPS[sparsity]
    blocks = math.ceil((1 + min(shape) / max(shape)) / density)
    element = jt.select(scores, density)
    groups = jt.select(scores, n / m, scope=scopes.groups(m, axis=0))
    return {
        "dense": execution.pack_dense(kernel, element),
        "nm": execution.pack_nm(kernel, groups, n=n, m=m),
        "condensed": execution.pack_condensed(kernel, jt.select(scores, density, scope=scopes.slices(-1))),
        "blocks": execution.pack_blocks(
            kernel, jt.select(scores, density, unit=units.block(side, side)), block=(side, side)
        ),
        "bcsr": execution.pack_bcsr(kernel, element),
        "monarch": execution.draw_monarch(shape, key=jax.random.key(2), blocks=blocks),
    }


def rows(args: argparse.Namespace, *, backward: bool) -> list[dict]:
    table = []
    layers = {"small": (64, 48)} if args.quick else LAYERS
    for name, shape in layers.items():
        packed = {sparsity: pack(shape, sparsity, 16 if args.quick else 32) for sparsity in GROUPS}
        for batch in BATCHES[-1:] if backward else BATCHES:
            for sparsity, forms in packed.items():
                choice = execution.measure(forms, batch=batch, backward=backward, rounds=3 if args.quick else 15)
                dense = choice.seconds["dense"]
                table.append(
                    {
                        "layer": f"{name} {shape[0]}x{shape[1]}",
                        "batch": f"{batch}{' backward' * backward}",
                        "sparsity": sparsity,
                        "dense ms": 1e3 * dense,
                        "again": choice.noise[0],
                        "to": choice.noise[1],
                        **{form: choice.seconds[form] / dense for form in FORMS},
                        "fastest": f"{choice.form} {choice.saving:.0%}" if choice.saving else "dense",
                    }
                )
    return table


def crossovers(table: list[dict]) -> list[dict]:
    """Return, for each layer and batch, the lowest sparsity from which on each form is faster than dense."""
    found = []
    for layer, batch in dict.fromkeys((row["layer"], row["batch"]) for row in table):
        here = [row for row in table if (row["layer"], row["batch"]) == (layer, batch)]
        found.append({"layer": layer, "batch": batch, **{form: crossover(here, form) for form in FORMS}})
    return found


def crossover(here: list[dict], form: str) -> str:
    """Return the lowest sparsity from which on the form is faster than dense beyond the usual noise, or "never"."""
    least = min(1.0, statistics.median(row["again"] for row in here))
    slower = [row["sparsity"] for row in here if row[form] >= least]
    faster = [row["sparsity"] for row in here if not slower or row["sparsity"] > max(slower)]
    return f"{min(faster):.0%}" if faster else "never"


def main() -> None:
    args = _harness.arguments(__doc__)
    busy = _harness.Busy()
    table = rows(args, backward=False) + rows(args, backward=True)
    _harness.report("sparse_matmul", table, busy=busy, out=args.out)
    print("\nfaster than dense from this sparsity on:")
    _harness.report("sparse_matmul_crossover", crossovers(table), busy=busy, out=args.out)


if __name__ == "__main__":
    main()
