"""The two sides of the comparison with Torch-Pruning: its program as a process that answers, and turns of both."""

import contextlib
import json
import os
import pathlib
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import _torch_weights
import jax
import numpy as np

PROGRAM = pathlib.Path(__file__).parent / "_torch_pruning_peer.py"
AGREES = 1e-4  # of the largest logit


class Peer:
    """Torch-Pruning in a process of its own; a network has the same name on both sides."""

    def __init__(self, process: subprocess.Popen, folder: pathlib.Path):
        self._process, self._file = process, str(folder / "arrays.npz")

    def ask(self, action: str, **request: Any) -> dict[str, Any]:
        """Return the answer to a request. Raises RuntimeError where the process stopped; it prints the reason."""
        self._process.stdin.write(json.dumps({"action": action, **request}) + "\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError(f"the process with PyTorch stopped at {action!r}; its error is above")
        return json.loads(answer)

    def load(self, name: str, kind: str, variables: Any, x: np.ndarray, logits: jax.Array) -> float:
        """Carry a network over, and return the difference of its logits over the largest.

        Raises RuntimeError where they do not agree: then it is another network.
        """
        arrays = _torch_weights.to_torch(variables)
        np.savez(self._file, inputs=_torch_weights.channels_first(x), logits=np.asarray(logits), **arrays)
        answer = self.ask("load", name=name, kind=kind, file=self._file)
        relative = answer["difference"] / answer["size"]
        if not relative < AGREES:
            raise RuntimeError(f"{name}: the logits of PyTorch differ by {relative:.1e} of the largest")
        return relative

    def groups(self, name: str, x: np.ndarray) -> list[dict[str, Any]]:
        """Return the groups that Torch-Pruning finds: the layers whose outputs each couples, and its width."""
        return self.ask("groups", name=name, shape=_torch_weights.channels_first(x).shape)["groups"]

    def prune(self, name: str, into: str, like: Any, x: np.ndarray, *, ratio: float, ranking: str) -> tuple[Any, dict]:
        """Return the variables that Torch-Pruning leaves, and the outputs that each layer lost."""
        shape = _torch_weights.channels_first(x).shape
        request = {"name": name, "into": into, "shape": shape, "ratio": ratio, "ranking": ranking}
        dropped = self.ask("prune", **request, file=self._file)["dropped"]
        with np.load(self._file, allow_pickle=False) as arrays:
            return _torch_weights.from_torch(arrays, like), dropped

    def count(self, name: str, x: np.ndarray) -> dict[str, int]:
        """Return the multiply-adds and parameters that Torch-Pruning counts."""
        return self.ask("count", name=name, shape=_torch_weights.channels_first(x).shape)

    def seconds(self, name: str, x: np.ndarray) -> float:
        """Return the seconds of a call."""
        return self.ask("seconds", name=name, shape=_torch_weights.channels_first(x).shape)["seconds"]


@contextlib.contextmanager
def start(torch_python: str | None) -> Iterator[Peer | None]:
    """Start the process with PyTorch, or nothing where no interpreter is named."""
    if torch_python is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        threads = {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
        with subprocess.Popen([torch_python, str(PROGRAM)], env={**os.environ, **threads}, **pipes) as process:
            yield Peer(process, pathlib.Path(folder))
            process.stdin.close()


def seconds_of(call: Callable[[], Any]) -> float:
    """Return the seconds of a call, after one that warms up, as the other side measures it."""
    jax.block_until_ready(call())
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin


def in_turns(timers: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """Return the median seconds of each timer. Every round reads all of them once, in a new random order."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(timers), len(timers)):
            times[name].append(timers[name]())
    return {name: statistics.median(t) for name, t in times.items()}
