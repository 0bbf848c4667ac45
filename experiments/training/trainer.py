"""The training of several networks in one program: lanes that are stacked, padded, trained and taken apart."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

from jaxticket import training
from jaxticket.typing import Key, Mask, Params, PyTree

TOGETHER = 16  # lanes in one program, at most


class Lane(NamedTuple):
    """A training; or several, if every leaf has a leading axis."""

    params: Params
    state: PyTree  # of the model, and what the loss or the observer must know beside it
    opt_state: PyTree  # None before the first step
    key: Key  # of the order of the examples
    mask: Mask | None = None  # None where all weights are kept, or where the optimizer masks
    subset: jax.Array | None = None  # (examples,) bool; None trains on all


@dataclasses.dataclass(frozen=True)
class Trainer:
    """A trainer of lanes that differ in numbers only, several in one program.

    Attributes:
      fit: trains stacked lanes, or a single one if they are not stacked.
      lanes: the number that a program takes; missing ones are filled up, as another number would compile again.
      stacked: whether the arrays of a program have a leading axis of lanes.
      where: the devices of the lanes, and the reason.
      until: called with the last step of a training, before it, or None.
    """

    fit: training.FitFn
    lanes: int = 1
    stacked: bool = False
    where: str = ""
    until: Callable[[int], None] | None = None

    def train(
        self, lanes: Sequence[Lane], *, steps: int, step: int = 0, stretch: float = 1.0
    ) -> list[tuple[Lane, float]]:
        """Return the lanes after `steps` more steps, and the mean loss of the last epoch of each."""
        trained: list[tuple[Lane, float]] = []
        if self.until:
            self.until(step + steps)
        for at in range(0, len(lanes), self.lanes):
            some = lanes[at : at + self.lanes]
            carry, losses = self.advance(self.join(some), step=step, steps=steps, stretch=stretch)
            trained += zip(self.split(carry, len(some)), losses)
        return trained

    def advance(self, carry: Lane, *, step: int, steps: int, stretch: float = 1.0) -> tuple[Lane, list[float]]:
        """Return joined lanes after `steps` more steps, and the losses, those of lanes that fill up among them."""
        mask = jax.tree.map(lambda _: None, carry.params) if carry.mask is None else carry.mask
        given = (carry.params, carry.state, mask, carry.key)
        more = {"opt_state": carry.opt_state, "subset": carry.subset, "stretch": stretch}
        fitted = self.fit(*given, step=step, steps=steps, **more)
        carry = carry._replace(params=fitted.params, state=fitted.state, opt_state=fitted.opt_state)
        return carry, fitted.loss if self.stacked else [fitted.loss]

    def join(self, lanes: Sequence[Lane]) -> Lane:
        """Stack lanes, at most as many as a program takes."""
        if not self.stacked:
            return lanes[0]
        padded = [*lanes, *[lanes[0]] * (self.lanes - len(lanes))]
        return cast(Lane, jax.tree.map(lambda *xs: jnp.stack(xs), *padded))

    def split(self, carry: Lane, count: int) -> list[Lane]:
        """Take apart the first `count` lanes, on the first device."""
        if not self.stacked:
            return [carry]
        carry = jax.device_put(carry, jax.devices()[0])
        return [jax.tree.map(lambda x, lane=lane: x[lane], carry) for lane in range(count)]


def is_stacked(placement: training.Placement | None) -> bool:
    """Whether trainings placed so are one program."""
    return placement is not None and placement.batching != "sequence"


def fill(together: int, placement: training.Placement) -> int:
    """Return the number of lanes of a program, so that each device has as many: else arrays are gathered."""
    return together + -together % len(placement.devices)
