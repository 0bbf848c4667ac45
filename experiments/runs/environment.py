"""The environment of a run: versions, devices and memory; kept in its folder, a line for each start."""

import datetime
import functools
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.runs import processes
from jaxticket import files, filters, masks
from jaxticket.typing import Filter, Params, PyTree

_PACKAGES = ("jaxticket", "jax", "jaxlib", "optax", "flax", "orbax-checkpoint", "numpy")
# Those that change numbers, speed or memory. No others are kept: variables hold secrets, and paths name people.
_VARIABLES = (
    "JAX_DEBUG_NANS",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DISABLE_JIT",
    "JAX_ENABLE_X64",
    "JAX_NUM_CPU_DEVICES",
    "JAX_PLATFORMS",
    "JAX_THREEFRY_PARTITIONABLE",
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
)


def versions() -> dict[str, str]:
    """Return the versions of the packages and the machine that compute the numbers."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "devices": f"{len(devices)} × {devices[0].device_kind} ({devices[0].platform})",
        "processes": str(jax.process_count()),
        "cores": str(os.cpu_count()),
    }


def record(folder: pathlib.Path) -> None:
    """Add this start of the run to environment.json. Neither names of machines nor secrets are kept.

    Of several processes the first one writes it. Raises CheckpointError if it cannot be written.
    """
    if not processes.is_main():
        return
    file = folder / "environment.json"
    start = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit(),
        **versions(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }
    files.write_text(file, json.dumps([*_starts(file), start], indent=1, ensure_ascii=False) + "\n")


def memory(
    init: Callable[[jax.Array], tuple[Params, PyTree]], fresh: Callable[[Params], PyTree], data: PyTree, *, lanes: int
) -> str:
    """Return a line with the memory that the arrays of a run take, and that there is; nothing is computed.

    Args:
      init: key -> parameters, model state.
      fresh: parameters -> the optimizer's state.
      data: the arrays of the data set.
      lanes: trainings side by side.
    """
    params, state = jax.eval_shape(init, jax.random.key(0))
    weights, optimizer = _bytes((params, state)), _bytes(jax.eval_shape(fresh, params))
    mask = jax.eval_shape(functools.partial(filters.full_mask, where=filters.weights()), params)
    entries = sum(leaf.size for leaf in jax.tree.leaves(mask))
    saved = lanes * (weights + optimizer + entries / 8)
    side = f", of each of {lanes} side by side" if lanes > 1 else ""
    return (
        f"memory: weights {_shown(weights)}, optimizer {_shown(optimizer)}, mask {_shown(entries)}{side}; "
        f"data {_shown(_bytes(data))}; a checkpoint {_shown(saved)}; {_available()}"
    )


def prunable(
    init: Callable[[jax.Array], tuple[Params, PyTree]],
    densities: Sequence[float],
    *,
    where: Filter = filters.weights(),
) -> str:
    """Return the table of the weights that a run prunes, and to which densities; nothing is computed.

    Args:
      init: key -> parameters, model state.
      densities: the densities that the run reaches.
      where: the leaves that it prunes.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(prunable(lambda key: ({"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}, None), [0.2, 0.1]))
      pruned to 0.2, 0.1 of the maskable weights:
      path      shape   kept  size  density
      -------------------------------------
      bias      (4,)       4     4    dense
      kernel    (3, 4)    12    12   1.0000
      -------------------------------------
      maskable            12    12   1.0000
      all                 16    16   1.0000
    """
    params, _ = jax.eval_shape(init, jax.random.key(0))
    full = jax.eval_shape(functools.partial(filters.full_mask, where=where), params)
    mask = jax.tree.map(lambda m: np.ones((1,) * m.ndim, bool), full)
    return (
        f"pruned to {', '.join(f'{d:.3g}' for d in densities)} of the maskable weights:\n{masks.summary(params, mask)}"
    )


def commit(*, digits: int = 40) -> str | None:
    """The commit of this checkout, with a mark if tracked files differ from it; None where there is none."""
    command = ["git", "describe", "--always", "--exclude=*", f"--abbrev={digits}", "--dirty"]
    try:
        done = subprocess.run(
            command, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _available() -> str:
    devices = jax.local_devices()
    name = f"{len(devices)} {devices[0].platform} device{'s' * (len(devices) > 1)}"
    if limit := (devices[0].memory_stats() or {}).get("bytes_limit"):
        return f"{name} of {_shown(limit)}"
    return f"{name} in {_shown(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))}"


def _bytes(tree: PyTree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _shown(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _starts(file: pathlib.Path) -> list[Any]:
    """The starts noted so far; none if the file is not there or not what `record` writes."""
    try:
        starts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return starts if isinstance(starts, list) else []
