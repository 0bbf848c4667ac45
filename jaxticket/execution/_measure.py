"""Times of the forms of a kernel on the device at hand, and the choice that they allow."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxticket._checks import check_count
from jaxticket._timing import time_rounds
from jaxticket.errors import InputError
from jaxticket.execution._packed import Packed, matmul

_CONTROL = "dense again"


class Choice(NamedTuple):
    """The form of a kernel that is fastest as measured, which is the dense one unless another form is surely faster.

    Attributes:
      form: the name of the form.
      packed: the kernel in this form.
      saving: the part of the dense product's time that the form saves, the smaller of two measurements; 0 where dense
        is chosen.
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


def measure(forms: Mapping[str, Packed], *, batch: int, backward: bool = False, rounds: int = 15) -> Choice:
    """Measure products of a batch with forms of a kernel, and choose the fastest.

    Each round times all forms once, and the dense one twice, compiled, in a random order. A form is faster than dense
    where the upper quartile of its ratio to dense in the same round lies below 1 and below the lower quartile of the
    second dense product's. The form with the lowest median is measured again, beside dense alone. If it is faster there
    too, it is chosen, with the smaller of both savings. Otherwise dense is chosen.

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
      >>> from jaxticket import execution
      >>> dense = execution.pack_dense(jnp.ones((4, 4)), jnp.ones((4, 4), bool))
      >>> choice = execution.measure({"dense": dense}, batch=2, rounds=1)
      >>> choice.form, choice.saving
      ('dense', 0.0)
    """
    check_count(1, batch=batch, rounds=rounds)
    _check_forms(forms)
    dense = forms["dense"]
    x = jax.random.normal(jax.random.key(0), (int(batch), dense.shape[0]), dense.dtype)
    calls = {name: _compile(x, packed, backward) for name, packed in {**forms, _CONTROL: dense}.items()}
    times = time_rounds(calls, int(rounds))
    seconds = {name: statistics.median(times[name]) for name in forms}
    noise = _quartiles(times, _CONTROL)
    best = min(seconds, key=seconds.__getitem__)
    if best != "dense" and _quartiles(times, best)[1] < min(1.0, noise[0]):
        again = time_rounds({name: calls[name] for name in ("dense", _CONTROL, best)}, int(rounds))
        if _quartiles(again, best)[1] < min(1.0, _quartiles(again, _CONTROL)[0]):
            slower = max(statistics.median(_ratios(measured, best)) for measured in (times, again))
            return Choice(best, forms[best], 1 - slower, seconds, noise)
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
    return lambda: compiled(x, packed)


def _ratios(times: Mapping[str, list[float]], name: str) -> list[float]:
    return [seconds / dense for seconds, dense in zip(times[name], times["dense"])]


def _quartiles(times: Mapping[str, list[float]], name: str) -> tuple[float, float]:
    low, high = np.quantile(_ratios(times, name), [0.25, 0.75])
    return float(low), float(high)
