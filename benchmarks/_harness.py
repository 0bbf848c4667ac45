"""Measurement for the benchmarks: rounds in random order in one process, medians, and the load of the machine."""

import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax


def arguments(
    description: str, *, torch_python: bool = False, more: Mapping[str, Mapping[str, Any]] | None = None
) -> argparse.Namespace:
    """Return the flags that all benchmarks share, the interpreter that has PyTorch where it is a peer, and more."""
    parser = argparse.ArgumentParser(description=description)
    for flag, options in (more or {}).items():
        parser.add_argument(flag, **options)
    if torch_python:
        torch = "a Python interpreter with PyTorch, to be timed as well (default: what TORCH_PYTHON names)"
        parser.add_argument("--torch-python", default=os.environ.get("TORCH_PYTHON") or None, help=torch)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: does it run?")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks"), help="folder of the JSON")
    return parser.parse_args()


def measure(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int, seconds: float = 0.0, seed: int = 0
) -> dict[str, float]:
    """Return the median seconds of each call. Every round runs all calls once, in a new random order.

    There are `rounds` of them at least, and more until they took `seconds`: medians of short calls need many.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = random.Random(seed)
    for call in calls.values():
        jax.block_until_ready(call())
    start = time.perf_counter()
    while len(next(iter(times.values()))) < rounds or time.perf_counter() - start < seconds:
        for name in order.sample(list(calls), len(calls)):
            begin = time.perf_counter()
            jax.block_until_ready(calls[name]())
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(t) for name, t in times.items()}


class Busy:
    """The use of the machine by others: CPU seconds of other processes over all CPU seconds."""

    def __init__(self) -> None:
        self._begin = self._now()

    def share(self) -> float | None:
        begin, end = self._begin, self._now()
        if begin is None or end is None:
            return None
        (all0, busy0, own0), (all1, busy1, own1) = begin, end
        return max(0.0, (busy1 - busy0 - (own1 - own0)) / max(all1 - all0, 1e-9))

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        try:
            fields = [int(f) for f in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        ticks = os.sysconf("SC_CLK_TCK")
        own = os.times()
        ours = own.user + own.system + own.children_user + own.children_system  # children once they are waited for
        return sum(fields) / ticks, (sum(fields) - fields[3] - fields[4]) / ticks, ours


def report(name: str, rows: list[dict[str, Any]], *, busy: Busy, out: pathlib.Path) -> None:
    """Print the rows as a table, and write them as JSON with the machine on which they were measured."""
    columns = list(rows[0])
    cells = [columns] + [[_shown(row[c]) for c in columns] for row in rows]
    widths = [max(len(r[i]) for r in cells) for i in range(len(columns))]
    for r in cells:
        print("  ".join(c.rjust(w) for c, w in zip(r, widths, strict=True)))
    share = busy.share()
    print(f"other processes used {'an unknown part' if share is None else f'{share:.0%}'} of the machine")
    out.mkdir(parents=True, exist_ok=True)
    device = jax.devices()[0]
    machine = {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": f"{device.platform}: {device.device_kind}",
        "jax": jax.__version__,
        "optax": optax.__version__,
        "others": share,
    }
    path = out / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    print(f"written to {path}")


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
