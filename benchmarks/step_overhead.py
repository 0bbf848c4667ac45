"""The cost of a training step under `sparsify`, as ratios to the same step of the same optimizer (adam) without it.

idle: a step between refreshes. refresh: a step with a refresh. amortised: 99 idle steps and a refresh, over 100 plain
steps. compile: trace and compilation of the step. state: bytes of state beyond adam's, a parameter. The second row is
plain against plain, the control of the measurement. Steps donate their state, as training loops do.

straight_through, top_kast and, before it cuts, iss_p choose their weights at each step: all their steps are alike.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import _harness
import _workloads
import jax
import optax

import jaxticket as jt

NEVER = 10**9
ALIKE = ("static", "iss_p", "straight_through", "top_kast")  # those without refreshes
QUICK = ("plain", "plain again", "static", "rigl", "top_kast")


class Subject(NamedTuple):
    """An optimizer, and the parameters that the loss sees."""

    tx: optax.GradientTransformation
    realise: Callable[[Any], Any] = lambda params: params


def subjects(every: int, names: Collection[str] | None = None) -> dict[str, Subject]:
    """Return the subjects to compare, or those that are named; refreshes are due at this period."""
    adam = optax.adam(1e-3)
    often = {"every": every, "stop": NEVER}
    compress, decompress = jt.schedules.every(2 * every), jt.schedules.every(2 * every, start=every)
    phases = jt.alternate(jt.scores.magnitude, 0.1, compress=compress, decompress=decompress, scope=jt.scopes.tree())
    plans = {
        "static": jt.static(0.1),
        "gradual": jt.gradual(jt.schedules.constant(0.1), **often),
        "sparse_evolutionary": jt.sparse_evolutionary(0.1, every=every),
        "rigl": jt.rigl(0.1, **often),
        "snfs": jt.snfs(0.1, **often),
        "itop": jt.itop(0.1, every=every, steps=NEVER),
        "granet": jt.granet(0.1, **often, steps=NEVER),
        "mest": jt.mest(0.1, **often),
        "ac_dc": jt.Plan(phases, jt.schedules.either(compress, decompress), newborn="reset_all"),
        "iss_p": jt.iss_p(0.1, stop=NEVER),
    }
    reparams = {
        "straight_through": jt.reparam.straight_through(0.1),
        "top_kast": jt.reparam.top_kast(0.1, backward=0.2, weight_decay=1e-4),
    }
    several = {
        "plain": Subject(adam),
        "plain again": Subject(adam),
        **{name: Subject(jt.sparsify(adam, plan, key=jax.random.key(1))) for name, plan in plans.items()},
        **{name: Subject(r.wrap(adam), lambda latent, r=r: r.realise(latent, count=0)) for name, r in reparams.items()},
    }
    return {name: subject for name, subject in several.items() if names is None or name in names}


def make_step(subject: Subject, workload: _workloads.Workload) -> Callable:
    def step(params, state):
        grads = jax.grad(lambda params: workload.loss(subject.realise(params)))(params)
        updates, state = subject.tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


class Training:
    """A training run that advances by `steps` at each call, so that rounds of several runs can be interleaved."""

    def __init__(self, subject: Subject, workload: _workloads.Workload, steps: int):
        self.step = make_step(subject, workload)
        self.steps = steps
        params = jax.tree.map(lambda p: p.copy(), workload.params)
        self.carry = (params, subject.tx.init(params))
        self.carry = jax.block_until_ready(self.step(*self.carry))  # step 0, on which every period is due

    def __call__(self):
        for _ in range(self.steps):
            self.carry = self.step(*self.carry)
        return self.carry


def compile_seconds(workload: _workloads.Workload, rounds: int, names: Collection[str] | None) -> dict[str, float]:
    several = subjects(100, names)
    times: dict[str, list[float]] = {name: [] for name in several}
    for r in range(rounds + 1):
        for name in random.Random(r).sample(list(several), len(several)):
            state = jax.eval_shape(several[name].tx.init, workload.params)
            jax.clear_caches()
            gc.collect()
            begin = time.perf_counter()
            make_step(several[name], workload).lower(workload.params, state).compile()
            if r:  # the first round warms Python up
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(t) for name, t in times.items()}


def state_bytes(tx: optax.GradientTransformation, workload: _workloads.Workload) -> int:
    state = jax.eval_shape(tx.init, workload.params)
    return sum(
        x.size * x.dtype.itemsize
        for x in jax.tree.leaves(state)
        if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    )


def compare(
    name: str,
    workload: _workloads.Workload,
    *,
    steps: int,
    rounds: int,
    compiles: int,
    names: Collection[str] | None = None,
) -> list[dict]:
    never, often = subjects(NEVER, names), subjects(1, names)
    idle = _harness.measure({n: Training(s, workload, steps) for n, s in never.items()}, rounds=rounds)
    due = _harness.measure(
        {n: Training(s, workload, max(steps // 5, 1)) for n, s in often.items() if n not in ALIKE},
        rounds=max(rounds // 2, 2),
    )
    compiled = compile_seconds(workload, compiles, names)
    size = sum(p.size for p in jax.tree.leaves(workload.params))
    rows = []
    for plan, subject in never.items():
        ratio = idle[plan] / idle["plain"]
        refresh = ratio if plan in ALIKE else due[plan] / due["plain"]
        rows.append(
            {
                "network": f"{name} {size / 1e6:.2f}M",
                "plan": plan,
                "step ms": 1e3 * idle[plan] / steps,
                "idle": ratio,
                "refresh": "-" if plan in ALIKE else refresh,
                "amortised": (99 * ratio + refresh) / 100,
                "compile": compiled[plan] / compiled["plain"],
                "state": (state_bytes(subject.tx, workload) - state_bytes(optax.adam(1e-3), workload)) / size,
            }
        )
    return rows


def main() -> None:
    args = _harness.arguments(__doc__)
    busy = _harness.Busy()
    if args.quick:
        small = _workloads.mlp(batch=8, widths=(20, 10, 5))
        rows = compare("MLP", small, steps=2, rounds=2, compiles=1, names=QUICK)
    else:
        rows = compare("MLP", _workloads.mlp(), steps=50, rounds=25, compiles=2)
        rows += compare("transformer", _workloads.transformer(), steps=5, rounds=15, compiles=1)
    _harness.report("step_overhead", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
