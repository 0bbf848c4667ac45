"""A row of the registry, and the setting for which it makes a method."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax

from jaxticket.reparam import Reparam
from jaxticket.transforms import Plan
from jaxticket.typing import Params


class Setting(NamedTuple):
    """The training for which a method is made.

    Attributes:
      density: the fraction of weights to keep. It may be traced, except where a first mask is allocated by ERK.
      steps: optimizer steps of the training.
      apply: (params, x) -> outputs, logits of a classifier, in evaluation mode.
      criterion: (outputs, batch) -> scalar.
      inputs: batch -> x.
      batches: the data of data-driven scores: pytrees, which each score iterates over again. FORCE and iterative SNIP
        read the next one in each round.
      apply_train: (params, x) -> outputs in training mode, in which batch norms use the statistics of the batch. GraSP,
        FORCE and iterative SNIP then score with it, as their authors do; None for `apply`.

    Examples:
      >>> import jax.numpy as jnp
      >>> square = lambda outputs, batch: jnp.mean((outputs - batch["y"]) ** 2)
      >>> batch = {"x": jnp.array([[1.0, 3.0]]), "y": jnp.zeros(1)}
      >>> setting = Setting(0.5, 1000, lambda params, x: x @ params["w"], square, lambda batch: batch["x"], [batch])
      >>> float(setting.loss({"w": jnp.ones(2)}, batch))
      16.0
    """

    density: float | jax.Array
    steps: int
    apply: Callable[[Params, Any], jax.Array]
    criterion: Callable[[jax.Array, Any], jax.Array]
    inputs: Callable[[Any], Any]
    batches: Sequence[Any]
    apply_train: Callable[[Params, Any], jax.Array] | None = None

    def loss(self, params: Params, batch: Any) -> jax.Array:
        """Return the criterion of the outputs for a batch."""
        return self.criterion(self.apply(params, self.inputs(batch)), batch)

    def train_loss(self, params: Params, batch: Any, *, temperature: float = 1.0) -> jax.Array:
        """Return the criterion of the outputs in training mode, if there is one, divided by a temperature."""
        apply = self.apply if self.apply_train is None else self.apply_train
        return self.criterion(apply(params, self.inputs(batch)) / temperature, batch)


class Method(NamedTuple):
    """A published method in the terms of Cheng et al., "A Survey on Deep Neural Network Pruning" (2023).

    Attributes:
      name: the name on command lines.
      paper: authors, year and title in short.
      arguments: the code, for a training of 1,000 steps.
      make: setting -> the method: a plan for `sparsify`, or a reparametrisation.
      evidence: tests that would fail if the method were wrong.
      unit: the weights that live or die together: single ones, or blocks of 4 × 4.
      when: whether the mask is chosen before the training, or changes during it.
      scope: the weights that compete: all of them ("tree": the scores decide how dense each leaf is), those of each
        leaf ("leaf": leaves have fixed densities), or those of small groups ("groups").
      data: whether the mask depends on data in another way than through the weights.
      needs: some of "gradients" and "hessian" (of the loss) and "key".
      regrows: whether a pruned weight may come back.
    """

    name: str
    paper: str
    arguments: str
    make: Callable[[Setting], Plan | Reparam]
    evidence: tuple[str, ...]
    unit: Literal["element", "block"] = "element"
    when: Literal["before", "during"] = "during"
    scope: Literal["tree", "leaf", "groups"] = "leaf"
    data: Literal["none", "batch"] = "none"
    needs: frozenset[str] = frozenset()
    regrows: bool = False
