"""What the registry says of a method, and what it makes one for."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax

from jaxticket.reparam import Reparam
from jaxticket.transforms import Plan
from jaxticket.typing import Params

__all__ = ["Method", "Setting"]


class Setting(NamedTuple):
    """What a method is made for.

    Attributes:
      density: the fraction of weights to keep. It may be traced, except where a first mask is allocated by ERK.
      steps: optimizer steps of the training.
      apply: (params, x) -> outputs, logits of a classifier, in evaluation mode.
      criterion: (outputs, batch) -> scalar. inputs: batch -> x.
      batches: what data-driven scores are computed on: pytrees, gone through anew at each score.

    >>> import jax.numpy as jnp
    >>> square = lambda outputs, batch: jnp.mean((outputs - batch["y"]) ** 2)
    >>> batch = {"x": jnp.array([[1.0, 3.0]]), "y": jnp.zeros(1)}
    >>> setting = Setting(0.5, 1000, lambda params, x: x @ params["w"], square, lambda batch: batch["x"], [batch])
    >>> float(setting.loss({"w": jnp.ones(2)}, batch)), setting.part(0.75)
    (16.0, 750)
    """

    density: float | jax.Array
    steps: int
    apply: Callable[[Params, Any], jax.Array]
    criterion: Callable[[jax.Array, Any], jax.Array]
    inputs: Callable[[Any], Any]
    batches: Sequence[Any]

    def loss(self, params: Params, batch: Any) -> jax.Array:
        """The criterion of the outputs for a batch."""
        return self.criterion(self.apply(params, self.inputs(batch)), batch)

    def part(self, fraction: float) -> int:
        """This part of the training in steps, at least one."""
        return max(1, round(fraction * self.steps))


class Method(NamedTuple):
    """A published method in the terms of Cheng et al., "A Survey on Deep Neural Network Pruning" (2023).

    Attributes:
      name: as on command lines. paper: authors and year.
      unit: what lives or dies together: single weights, or blocks of 4 × 4.
      when: the mask is chosen before the training, or changes during it.
      scope: what competes: all weights ("tree": the scores decide how dense each leaf is), those of each leaf ("leaf":
        leaves have fixed densities), or those of small groups ("groups").
      data: does the mask depend on data in another way than through the weights?
      needs: some of "gradients" and "hessian" (of the loss) and "key".
      regrows: may a pruned weight come back?
      arguments: the code, for a training of 1,000 steps. evidence: tests and scripts that would fail if it were wrong.
      make: the method for a setting: a plan for `sparsify`, or a reparametrisation. Periods, ends and drop fractions
        are the published ones scaled to `steps`, as the module that makes it says.
    """

    name: str
    paper: str
    unit: Literal["element", "block"]
    when: Literal["before", "during"]
    scope: Literal["tree", "leaf", "groups"]
    data: Literal["none", "batch"]
    needs: frozenset[str]
    regrows: bool
    arguments: str
    evidence: tuple[str, ...]
    make: Callable[[Setting], Plan | Reparam]
