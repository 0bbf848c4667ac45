"""The choice among the forms of a kernel, by measurement on the device at hand."""

import dataclasses
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_count
from jaxticket.errors import InputError
from jaxticket.execution._bcsr import pack_bcsr
from jaxticket.execution._blocks import pack_blocks
from jaxticket.execution._condensed import pack_condensed
from jaxticket.execution._dense import pack_dense
from jaxticket.execution._nm import pack_nm
from jaxticket.execution._packed import Packed, matmul, on_host

_CONTROL = "dense again"
_SIZES = (128, 64, 32, 16, 8, 4, 2, 1)  # of blocks
_GROUPS = (4, 8, 16, 32)  # of N:M
_SAMPLE = 1e-3  # seconds that a sample takes at least, so that the clock's steps do not count


class Choice(NamedTuple):
    """The form of a kernel that is fastest as measured, which is the dense one unless another form is surely faster.

    Attributes:
      form: the name of the form.
      packed: the kernel in this form.
      saving: the part of the dense product's time that the form saves, measured again after the choice; 0 where dense is
        chosen.
      seconds: the median time of a product, by form.
      noise: the quartiles of the dense product's time over its own time in the same round: (0.98, 1.02) is a quiet
        machine.
    """

    form: str
    packed: Packed
    saving: float
    seconds: dict[str, float]
    noise: tuple[float, float]

    def __str__(self) -> str:
        dense = self.seconds["dense"]
        lines = [f"{'form':>12}  {'µs':>9}  {'of dense':>8}"]
        for name, seconds in sorted(self.seconds.items(), key=lambda item: item[1]):
            lines.append(f"{name:>12}  {1e6 * seconds:9.1f}  {seconds / dense:8.2f}{'  *' * (name == self.form)}")
        lines.append(
            f"dense again takes {self.noise[0]:.2f} to {self.noise[1]:.2f} of dense; * saves {self.saving:.0%}"
        )
        return "\n".join(lines)


def fastest(kernel: jax.Array, mask: jax.Array, *, batch: int, backward: bool = False, rounds: int = 15) -> Choice:
    """Measure every form that a mask admits, and return the fastest: dense unless another one is surely faster.

    The result depends on the device, its load and the batch. `measure` says how it is chosen.

    Args:
      kernel: float array (inputs, outputs).
      mask: bool array that broadcasts to the kernel.
      batch: the number of rows of the inputs, such as examples × tokens.
      backward: whether the time includes the gradients with respect to the inputs and the kept weights.
      rounds: the number of times that each form is timed.

    Returns:
      A Choice.

    Raises:
      InputError: a kernel that is not a matrix of floats, a mask that does not fit it, traced arrays, or counts below 1.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> kernel = jax.random.normal(jax.random.key(0), (64, 32))
      >>> choice = fastest(kernel, jnp.abs(kernel) > 2, batch=8, rounds=3)
      >>> sorted(choice.seconds), choice.saving >= 0
      (['bcsr', 'dense', 'nm'], True)
    """
    return measure(pack_all(kernel, mask), batch=batch, backward=backward, rounds=rounds)


def pack_all(kernel: jax.Array, mask: jax.Array) -> dict[str, Packed]:
    """Pack a kernel in every form that its mask admits.

    Args:
      kernel: float array (inputs, outputs).
      mask: bool array that broadcasts to the kernel.

    Returns:
      dict of "dense", "bcsr", and where they exist "nm" (for the groups of 4, 8, 16 or 32 of which least is kept),
      "condensed" and "blocks" (the largest whose sides are powers of two up to 128, and more than 1 × 1).

    Raises:
      InputError: a kernel that is not a matrix of floats, a mask that does not fit it, or traced arrays.

    Examples:
      >>> import jax.numpy as jnp
      >>> list(pack_all(jnp.ones((4, 4)), jnp.eye(4, dtype=bool)))
      ['dense', 'bcsr', 'nm', 'condensed']
    """
    weights, keep = on_host(kernel, mask)
    forms: dict[str, Packed] = {"dense": pack_dense(weights, keep), "bcsr": pack_bcsr(weights, keep)}
    n, m = min(((_most(keep, m), m) for m in _GROUPS), key=lambda pair: pair[0] / pair[1])
    if n < m:
        forms["nm"] = pack_nm(weights, keep, n=n, m=m)
    fan_in = keep.sum(0)
    if fan_in.min() == fan_in.max():
        forms["condensed"] = pack_condensed(weights, keep)
    block = _side(keep), _side(keep.T)
    if block != (1, 1):
        forms["blocks"] = pack_blocks(weights, keep, block=block)
    return forms


def measure(forms: Mapping[str, Packed], *, batch: int, backward: bool = False, rounds: int = 15) -> Choice:
    """Measure products of a batch with forms of a kernel, and choose the fastest.

    Each round times all forms once, and the dense one twice, compiled, in a random order. A form is faster than dense
    where its upper quartile of (time / dense's time in the same round) lies below the lower quartile of the second dense
    product's. The form with the lowest median is then measured again, beside dense alone; if the same holds, it is chosen,
    and its saving is that of the second measurement. Otherwise dense is chosen.

    Args:
      forms: packed kernels of one shape, by name; that of "dense" is what the others are compared with.
      batch: the number of rows of the inputs.
      backward: whether the time includes the gradients with respect to the inputs and the kept weights.
      rounds: the number of times that each form is timed.

    Returns:
      A Choice.

    Raises:
      InputError: no form "dense", forms of different shapes, or counts below 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> choice = measure({"dense": pack_dense(jnp.ones((4, 4)), jnp.ones((4, 4), bool))}, batch=2, rounds=1)
      >>> choice.form, choice.saving
      ('dense', 0.0)
    """
    check_count(1, batch=batch, rounds=rounds)
    _check_forms(forms)
    dense = forms["dense"]
    x = jax.random.normal(jax.random.key(0), (int(batch), dense.shape[0]), dense.dtype)
    calls = {name: _compile(x, packed, backward) for name, packed in {**forms, _CONTROL: dense}.items()}
    times = _rounds(calls, int(rounds))
    seconds = {name: statistics.median(times[name]) for name in forms}
    noise = _quartiles(times, _CONTROL)
    best = min(seconds, key=seconds.__getitem__)
    if best != "dense" and _quartiles(times, best)[1] < min(1.0, noise[0]):
        again = _rounds({name: calls[name] for name in ("dense", _CONTROL, best)}, int(rounds))
        if _quartiles(again, best)[1] < min(1.0, _quartiles(again, _CONTROL)[0]):
            return Choice(best, forms[best], 1 - statistics.median(_ratios(again, best)), seconds, noise)
    return Choice("dense", dense, 0.0, seconds, noise)


def _check_forms(forms: Any) -> None:
    if not isinstance(forms, Mapping) or not all(isinstance(packed, Packed) for packed in forms.values()):
        raise InputError("forms must map names to packed kernels; execution.pack_all(kernel, mask) makes them.")
    if "dense" not in forms:
        raise InputError(f"forms={list(forms)} has no 'dense' to compare with; add execution.pack_dense(kernel, mask).")
    shapes = {name: packed.shape for name, packed in forms.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"forms have the shapes {shapes}; pass forms of one kernel.")


def _compile(x: jax.Array, packed: Packed, backward: bool) -> Callable[[], Any]:
    """Return a call that computes a product, and its gradients where asked for, to the end."""

    def train(x: jax.Array, packed: Packed) -> Any:
        y, pull = jax.vjp(lambda x, values: matmul(x, dataclasses.replace(packed, values=values)), x, packed.values)
        return y, pull(y)

    compiled = jax.jit(train if backward else matmul).lower(x, packed).compile()
    return lambda: jax.block_until_ready(compiled(x, packed))


def _rounds(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call in each round, whose order is random and whose short calls are repeated."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = random.Random(0)
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, round(_SAMPLE / _time(call, 1)))
    for _ in range(rounds):
        for name in order.sample(list(calls), len(calls)):
            times[name].append(_time(calls[name], repeats[name]))
    return times


def _time(call: Callable[[], Any], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def _ratios(times: Mapping[str, list[float]], name: str) -> list[float]:
    return [seconds / dense for seconds, dense in zip(times[name], times["dense"])]


def _quartiles(times: Mapping[str, list[float]], name: str) -> tuple[float, float]:
    low, high = np.quantile(_ratios(times, name), [0.25, 0.75])
    return float(low), float(high)


def _most(keep: np.ndarray, m: int) -> int:
    """Return the most inputs that a group of m keeps."""
    padded = np.pad(keep, ((0, -keep.shape[0] % m), (0, 0)))
    return int(padded.reshape(-1, m, keep.shape[1]).sum(1).max())


def _side(keep: np.ndarray) -> int:
    """Return the largest size of blocks along axis 0 in which the mask is constant: the axis where it never changes."""
    changes = 1 + np.flatnonzero(np.any(keep[1:] != keep[:-1], 1))
    if changes.size == 0:
        return keep.shape[0]
    return next(size for size in _SIZES if size == 1 or not np.any(changes % size))
