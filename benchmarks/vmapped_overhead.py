"""What sparse training of eight vmapped replicates costs, as ratios to eight vmapped plain ones (adam).

idle: a step between refreshes. refresh: a step on which one is due for all. The second row is plain against plain.
Under vmap a refresh stays a conditional, so that idle steps do not pay for it; benchmarks/step_overhead.py has the same
columns for a single training.
"""

import _harness
import _workloads
import jax
import jax.numpy as jnp
import step_overhead

REPLICATES = 8
SHOWN = ("plain", "plain again", "static", "gradual", "sparse_evolutionary", "rigl")


class Replicates:
    """Training of several replicates as one program, which goes on by `steps` at each call."""

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
            "plan": plan,
            "step ms": 1e3 * idle[plan] / steps,
            "idle": idle[plan] / idle["plain"],
            "refresh": "-" if plan in step_overhead.ALIKE else due[plan] / due["plain"],
        }
        for plan in SHOWN
    ]


def main() -> None:
    args = _harness.arguments(__doc__)
    busy = _harness.Busy()
    if args.quick:
        rows = compare("small MLP", _workloads.mlp(batch=8, widths=(20, 10, 5)), steps=2, rounds=2)
    else:
        rows = compare("MLP", _workloads.mlp(), steps=10, rounds=25)
        rows += compare("small MLP", _workloads.mlp(batch=60, widths=(64, 30, 10)), steps=200, rounds=25)
    _harness.report("vmapped_overhead", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
