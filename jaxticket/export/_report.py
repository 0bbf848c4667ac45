"""The cost of a ticket beside that of the dense network, counted and measured."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxticket import files
from jaxticket._checks import check_count
from jaxticket._timing import time_rounds
from jaxticket.errors import InputError
from jaxticket.export._arrays import by_path
from jaxticket.export._costs import Cost, Report
from jaxticket.export._page import page
from jaxticket.structure import Channels, Groups, channels
from jaxticket.typing import Mask, PyTree


def write_report(
    path: str | os.PathLike[str],
    groups: Groups,
    mask: Mask | Channels,
    *inputs: Any,
    dense: tuple[Callable[..., Any], PyTree],
    ticket: tuple[Callable[..., Any], PyTree],
    title: str = "Dense network and ticket",
    rounds: int = 30,
) -> Report:
    """Measure a ticket beside its dense network, and write a page: parameters, FLOPs, bytes, latency, widths.

    Both are compiled, and called in turn in one process, in an order that changes every round. The page is a single
    HTML file that fetches nothing.

    Args:
      path: the file; it is replaced whole, and its folder is made.
      groups: the groups of the dense network, traced with inputs of these shapes.
      mask: the channels that the ticket keeps, as in `structure.channels`.
      *inputs: the arrays on which both are called.
      dense: the function of (variables, *inputs), and the variables.
      ticket: the same of the ticket: the replayed function, and what `structure.shrink` returned.
      title: the heading of the page.
      rounds: how often each is timed.

    Returns:
      The numbers on the page.

    Raises:
      InputError: variables of other shapes than the groups, or the mask, give, or less than one round.
      CheckpointError: a file that cannot be written.

    Examples:
      >>> import pathlib, tempfile
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure
      >>> params, x = {"a": jnp.ones((4, 6)), "b": jnp.ones((6, 2))}, jnp.ones((1, 4))
      >>> apply = lambda params, x: x @ params["a"] @ params["b"]
      >>> groups = structure.trace(apply, params, x)
      >>> kept = {"a:1": jnp.arange(6) > 2}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     ticket = (structure.replay(apply, kept, groups), structure.shrink(params, kept, groups))
      ...     path = pathlib.Path(folder) / "report.html"
      ...     report = write_report(path, groups, kept, x, dense=(apply, params), ticket=ticket)
      >>> report.dense.flops, report.ticket.flops, report.ticket.parameters
      (72, 36, 18)
    """
    check_count(1, rounds=rounds)
    kept = channels(mask, groups)
    _check_shapes("dense", dense[1], groups.shapes())
    _check_shapes("ticket", ticket[1], groups.shapes(kept))
    turns = time_rounds({"dense": _compiled(dense, inputs), "ticket": _compiled(ticket, inputs)}, rounds)
    times = np.array([turns["dense"], turns["ticket"]])
    device = jax.devices()[0]
    report = Report(
        dense=_cost(dense[1], 2 * groups.macs(), times[0]),
        ticket=_cost(ticket[1], 2 * groups.macs(kept), times[1]),
        speedup=float(np.median(times[0] / times[1])),
        device=f"{device.platform}: {device.device_kind}",
        rounds=int(rounds),
    )
    sizes = ", ".join(f"{x.dtype} {x.shape}" for x in map(jax.typeof, jax.tree.leaves(inputs)))
    files.write_together(pathlib.Path(path), page(title, report, groups.svg(kept), sizes))
    return report


def _check_shapes(argument: str, variables: PyTree, shapes: dict[str, tuple[int, ...]]) -> None:
    given = {name: tuple(x.shape) for name, x in by_path(argument, variables).items()}
    for name in [*shapes, *given]:
        if given.get(name) != shapes.get(name):
            what = f"has shape {given[name]}" if name in given else "is missing"
            raise InputError(
                f"{argument}: {name!r} {what}, where the groups and the mask give {shapes.get(name, 'no such leaf')}; "
                "pass the traced variables as dense and those of structure.shrink as ticket"
            )


def _compiled(network: tuple[Callable[..., Any], PyTree], inputs: Sequence[Any]) -> Callable[[], Any]:
    """Return a call of a network whose arrays lie on the device."""
    run, variables = network
    arguments = jax.device_put((variables, *inputs))
    compiled = jax.jit(lambda *arguments: run(*arguments)).lower(*arguments).compile()
    return lambda: compiled(*arguments)


def _cost(variables: PyTree, flops: int, seconds: np.ndarray) -> Cost:
    arrays = jax.tree.leaves(variables)
    first, median, third = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    size = sum(x.size * x.dtype.itemsize for x in arrays)
    return Cost(sum(x.size for x in arrays), flops, size, median, (first, third))
