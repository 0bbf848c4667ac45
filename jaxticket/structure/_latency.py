"""The time that a program takes without some of its channels, estimated from measurements on the device at hand."""

import hashlib
import os
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._timing import time_rounds
from jaxticket.errors import InputError
from jaxticket.structure._budget import Cost
from jaxticket.structure._groups import Groups
from jaxticket.structure._layers import Layer, layers
from jaxticket.structure._replay import replay
from jaxticket.structure._resize import shrink
from jaxticket.structure._splits import Prefer
from jaxticket.structure._times import Store
from jaxticket.structure._trace import couple
from jaxticket.typing import PyTree

Timer = Callable[..., float]  # (function, *arguments) -> seconds that function(*arguments) takes
_ROUNDS = 9


def latency(
    apply: Callable[..., Any],
    variables: PyTree,
    groups: Groups,
    *inputs: Any,
    outputs: Callable[[Any], Any] | None = None,
    prefer: Prefer = "outer",
    fractions: Sequence[float] = (0.125, 0.25, 0.5, 0.75, 1.0),
    timer: Timer | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Cost:
    """Estimate the seconds that a program takes without some channels, as a cost of `Budget`.

    Every matrix product and convolution is timed alone at these fractions of its inputs and outputs, and the whole
    program at the same fraction of every group. Times between are interpolated. A sum of layers is an estimate: it
    knows nothing of what the compiler fuses, of caches, or of steps between the fractions. What the whole program takes
    beside its layers is added, by the entries of the layers' outputs that stay. So the estimate is the measured time
    where all groups keep one of the fractions, if that time grows with width. Below the least fraction it does not
    fall. Times are made non-decreasing in width. Measure what was chosen before you claim a saving.

    Args:
      apply: the function that was traced.
      variables: its variables, as arrays.
      groups: what `structure.trace` returned for it.
      *inputs: the inputs, at the batch size for which time counts.
      outputs: as in `structure.trace`.
      prefer: as in `structure.trace`.
      fractions: increasing, in (0, 1], the last one 1.
      timer: (function, *arguments) -> seconds that a call takes; by default the median of compiled calls.
      cache: a file in which times are kept, by device, version of JAX and program. What it lacks is measured and added.
        It names a CPU by its architecture and number of cores, so keep one file for each kind of machine, and for each
        timer.

    Returns:
      mask of channels -> seconds.

    Raises:
      InputError: groups of another program, shapes in place of arrays, fractions out of order, times that are not
        positive, or a cache that is not such a file.
      CheckpointError: a cache that cannot be written.

    References:
      Shen et al. (2022), Structural Pruning via Latency-Saliency Knapsack.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from jaxticket import structure
      >>> params = {"a": jnp.ones((4, 8)), "b": jnp.ones((8, 2))}
      >>> apply = lambda p, x: x @ p["a"] @ p["b"]
      >>> groups = structure.trace(apply, params, jnp.ones((5, 4)))
      >>> def count_entries(function, *arguments):  # measure nothing
      ...     return float(sum(x.size for x in jax.tree.leaves(arguments)))
      >>> cost = structure.latency(apply, params, groups, jnp.ones((5, 4)), timer=count_entries)
      >>> kept = structure.choose(structure.pool(params, groups), groups, structure.Budget(0.7, cost))
      >>> int(kept["a:1"].sum()), cost(kept) / cost({}) <= 0.7
      (4, True)
    """
    fractions = _check_fractions(fractions)
    _check_arrays(variables=variables, inputs=inputs)
    store = Store(cache)
    time = timer or seconds
    coupling = couple(apply, variables, inputs, outputs=outputs, prefer=prefer)
    kept = [{g.name: np.arange(g.width) < max(1, round(f * g.width)) for g in groups} for f in fractions]

    def time_program() -> list[float]:
        times = []
        for mask in kept:
            run = replay(apply, mask, groups, outputs=outputs, prefer=prefer, allow_inexact=True)
            times.append(time(run, shrink(variables, mask, groups, allow_inexact=True), *inputs))
        return times

    program = store.take(_name(coupling.tape.jaxpr, groups, fractions), time_program, len(fractions))
    (launch,) = store.take("launch", lambda: [time(lambda x: x + 1, jnp.zeros(()))], 1)
    parts = layers(coupling)
    tables = {part.name: _table(part, fractions, time, launch, store) for part in parts}
    full = groups.widths()
    entries = sum(part.times * part.output.count(full) for part in parts)

    def interpolate(kept: Sequence[int]) -> float:
        total = 0.0
        for part in parts:
            summed, output = (work.count(kept) / work.count(full) for work in (part.summed, part.output))
            by_row = [np.interp(output, fractions, row) for row in tables[part.name]]
            total += part.times * float(np.interp(summed, fractions, by_row))
        return total

    def share(kept: Sequence[int]) -> float:
        return sum(part.times * part.output.count(kept) for part in parts) / max(entries, 1)

    counts = [groups.widths(mask) for mask in kept]
    alone, shares = np.array([interpolate(n) for n in counts]), [share(n) for n in counts]
    scale = _scale(program, alone)
    rest = np.maximum.accumulate(np.maximum(program - scale * alone, 0.0))

    def cost(channels: Mapping[str, Any]) -> float:
        kept = groups.widths(channels)
        return float(scale * interpolate(kept) + np.interp(share(kept), shares, rest))

    return cost


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Return the median time of a compiled call, whose arguments lie on the device."""
    arguments = jax.device_put(arguments)
    compiled = jax.jit(function).lower(*arguments).compile()
    times = time_rounds({"call": lambda: compiled(*arguments)}, _ROUNDS)
    return statistics.median(times["call"])


def _scale(program: Sequence[float], alone: np.ndarray) -> float:
    """Return by how much layers are faster within the program, where they seem to be: at most 1.

    What the program takes beside its layers is then not negative at either end, and does not shrink with width.
    """
    pairs = [(program[0], alone[0]), (program[-1], alone[-1]), (program[-1] - program[0], alone[-1] - alone[0])]
    return min([1.0, *(max(whole, 0.0) / part for whole, part in pairs if part > 0)])


def _check_fractions(fractions: Sequence[float]) -> list[float]:
    given = [float(f) for f in fractions]
    if not given or given != sorted(set(given)) or not given[0] > 0 or given[-1] != 1:
        raise InputError(f"fractions is {given}; they must increase from above 0 to 1")
    return given


def _check_arrays(**trees: PyTree) -> None:
    for name, tree in trees.items():
        if any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(tree)):
            raise InputError(f"{name}: a time takes arrays, not their shapes; pass jnp.zeros of these shapes")


def _table(part: Layer, fractions: list[float], time: Timer, launch: float, store: Store) -> np.ndarray:
    """Return the times of a layer, summed entries down and output entries across, without those of a launch."""
    rows, columns = (fractions if movable else [1.0] for movable in part.roots)
    times = store.take(
        f"{part.name} at {fractions}",
        lambda: [time(part.run, *part.operands(a, b)) for a in rows for b in columns],
        len(rows) * len(columns),
    )
    table = np.maximum(np.reshape(times, (len(rows), len(columns))) - launch, 0.0)
    monotone = np.maximum.accumulate(np.maximum.accumulate(table, 0), 1)
    return np.broadcast_to(monotone, (len(fractions), len(fractions)))


def _name(jaxpr: Any, groups: Groups, fractions: list[float]) -> str:
    """Return a name of a program that other programs do not have: its equations, their parameters, and its groups."""
    text = f"{groups.to_json()} {re.sub(' at 0x[0-9a-f]+', '', str(jaxpr))}"  # the same in other processes
    return f"program {hashlib.sha256(text.encode()).hexdigest()} at {fractions}"
