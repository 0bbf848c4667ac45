"""The cost of sparse training of eight vmapped replicates, as ratios to eight vmapped plain ones (adam).

idle: a step between refreshes. refresh: a step with a refresh of all replicates. The second row is plain against plain.
Under vmap a refresh stays a conditional, so that idle steps do not pay for it. benchmarks/step_overhead.py has the same
columns for a single training.

The memory of a compiled program beside its arguments is one block, with that of branches not taken. glibc takes blocks
of more than 32 MB from the system at each call and gives them back after it: each call pays for fresh pages. The rows
of the allocator "keeps" are measured with MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ at 4 GB, which keeps the
block.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import _harness
import _workloads
import jax
import jax.numpy as jnp
import step_overhead

REPLICATES = 8
SHOWN = ("plain", "plain again", "static", "gradual", "sparse_evolutionary", "rigl")
KEEPS = {f"MALLOC_{name}_THRESHOLD_": str(1 << 32) for name in ("MMAP", "TRIM")}


class Replicates:
    """The training of several replicates as one program, which advances by `steps` at each call."""

    def __init__(self, subject: step_overhead.Subject, workload: _workloads.Workload, steps: int):
        one = step_overhead.make_step(subject, workload)
        self.step = jax.jit(jax.vmap(one), donate_argnums=(0, 1))
        self.steps = steps
        scales = 1 + 0.01 * jnp.arange(REPLICATES)
        params = jax.vmap(lambda scale: jax.tree.map(lambda p: scale * p, workload.params))(scales)
        self.carry = params, jax.vmap(subject.tx.init)(params)
        self.carry = jax.block_until_ready(self.step(*self.carry))  # step 0, on which every period is due

    def __call__(self):
        for _ in range(self.steps):
            self.carry = self.step(*self.carry)
        return self.carry


def compare(name: str, workload: _workloads.Workload, *, steps: int, rounds: int) -> list[dict]:
    def seconds(every: int, rounds: int) -> dict[str, float]:
        several = step_overhead.subjects(every)
        return _harness.measure({n: Replicates(several[n], workload, steps) for n in SHOWN}, rounds=rounds)

    idle, due = seconds(step_overhead.NEVER, rounds), seconds(1, max(rounds // 2, 2))
    return [
        {
            "network": f"{REPLICATES} × {name}",
            "allocator": "keeps" if KEEPS.items() <= os.environ.items() else "default",
            "plan": plan,
            "step ms": 1e3 * idle[plan] / steps,
            "idle": idle[plan] / idle["plain"],
            "refresh": "-" if plan in step_overhead.ALIKE else due[plan] / due["plain"],
        }
        for plan in SHOWN
    ]


def with_other_allocator(arguments: list[str]) -> list[dict]:
    """Return the rows that this script measures in a process whose allocator keeps memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *arguments, "--out", folder]
        subprocess.run(command, env=os.environ | KEEPS, check=True, stdout=subprocess.DEVNULL)
        return json.loads((pathlib.Path(folder) / "vmapped_overhead.json").read_text())["rows"]


def main() -> None:
    args = _harness.arguments(__doc__)
    busy = _harness.Busy()
    small = _workloads.mlp(batch=60, widths=(64, 30, 10))
    if args.quick:
        rows = compare("small MLP", small, steps=2, rounds=2)
    else:
        rows = compare("MLP", _workloads.mlp(), steps=10, rounds=25) + compare("small MLP", small, steps=200, rounds=25)
        if not KEEPS.items() <= os.environ.items():
            rows += with_other_allocator(sys.argv[1:])
    _harness.report("vmapped_overhead", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
