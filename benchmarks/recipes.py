"""The cost of sparse training in each of examples/: the same file with and without the lines that make it sparse.

start: seconds until the first step is done (data, initial weights, tracing, compilation), over those of the dense loop.
step: seconds of a later step, refreshes included, over those of the dense loop. PPO is one program, whose start is its
compilation.
"""

import contextlib
import importlib.util
import io
import pathlib
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import _harness
import jax

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
OURS = re.compile(r"\bjt\.|\bjaxticket\b")
STEPS = {
    "equinox_mlp": 1000,
    "haiku_gru": 200,
    "linen_batch_norm": 200,
    "nnx_optimizer": 200,
    "ppo_seeds": 100,
    "scanned_lm": 100,
}


def load(name: str, *, sparse: bool) -> Callable[[list[str]], Any]:
    """Return the `main` of an example, or that of the dense loop which is left when our lines are deleted."""
    path = EXAMPLES / f"{name}.py"
    lines = [line for line in path.read_text().splitlines() if sparse or not OURS.search(line)]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / path.name
        file.write_text("\n".join(lines))
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    main: Callable[[list[str]], Any] = module.main
    return main


class Clock(io.StringIO):
    """An output that notes when each line of progress comes."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def write(self, text: str) -> int:
        if re.match("compiled|step|update", text):
            self.times.append(time.perf_counter())
        return super().write(text)


def run(main: Callable[[list[str]], Any], steps: int) -> tuple[float, float]:
    """Return the seconds until the first line of progress, and those of a step after it."""
    begin = time.perf_counter()
    with contextlib.redirect_stdout(Clock()) as clock:
        main(["--steps", str(steps)])
    first, last = clock.times[0], clock.times[-1]
    return first - begin, (last - first) / (steps - 1)


def compare(name: str, *, steps: int, rounds: int) -> dict[str, Any]:
    mains = {kind: load(name, sparse=kind == "sparse") for kind in ("dense", "sparse")}
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in mains}
    order = random.Random(0)
    for _ in range(rounds):
        for kind in order.sample(list(mains), len(mains)):
            jax.clear_caches()
            times[kind].append(run(mains[kind], steps))
    start, step = (
        {kind: statistics.median(pair[i] for pair in pairs) for kind, pairs in times.items()} for i in (0, 1)
    )
    return {
        "example": name,
        "dense step ms": 1e3 * step["dense"],
        "step": step["sparse"] / step["dense"],
        "dense start s": start["dense"],
        "start": start["sparse"] / start["dense"],
    }


def main() -> None:
    args = _harness.arguments(__doc__)
    busy = _harness.Busy()
    if args.quick:
        rows = [compare("equinox_mlp", steps=10, rounds=1)]
    else:
        rows = [compare(name, steps=steps, rounds=3) for name, steps in STEPS.items()]
    _harness.report("recipes", rows, busy=busy, out=args.out)


if __name__ == "__main__":
    main()
