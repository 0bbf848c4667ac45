"""The memory of a moving mask: the weights that were ever alive."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_mask
from jaxticket.errors import InputError
from jaxticket.transforms._base import MaskTransform, from_exchange, refresh
from jaxticket.typing import Key, Mask, Params, PyTree


class Explored(NamedTuple):
    """The state of `track_explored`."""

    ever: Mask  # alive now or at any refresh before
    inner: PyTree


def track_explored(transform: MaskTransform) -> MaskTransform:
    """Remember which weights were ever alive under `transform`, at one byte a weight; `explored_of` returns them.

    Their density is the in-time over-parametrisation rate R_s, which is said to decide the success of dynamic sparse
    training (Liu et al., 2021, ITOP). Scores see them as the signal `explored` (`scores.unfired`). In a plan it is
    plan._replace(refresh=track_explored(plan.refresh)). Its `init` raises InputError without a mask: wrap the whole
    chain, including its start(...).

    Examples:
      >>> from jaxticket import transforms
      >>> plan = transforms.rigl(0.1, stop=1000)
      >>> plan = plan._replace(refresh=track_explored(plan.refresh))
    """

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask, PyTree]:
        mask, state = transform.init(params, mask, key=key)
        if mask is None:
            raise InputError(
                "track_explored needs a mask: wrap chain(start(...), ...), or use sparsify(..., mask=mask)."
            )
        check_mask("mask", mask)
        return mask, Explored(_tree.map_present(lambda m: jnp.array(m, copy=True), mask), state)

    def exchange(mask: Mask, state: Explored, **signals: Any) -> tuple[Mask, Mask, PyTree]:
        mask, kept, inner = refresh(transform, mask, state.inner, explored=state.ever, **signals)
        check_mask("mask", mask)
        return mask, kept, Explored(_tree.map_present(jnp.logical_or, state.ever, mask), inner)

    def observe(state: Explored, **signals: Any) -> PyTree:
        return state if transform.observe is None else state._replace(inner=transform.observe(state.inner, **signals))

    watches = None if transform.observe is None else observe
    return from_exchange(init, exchange, watches, narrows=transform.narrows, unit=transform.unit)


def explored_of(opt_state: PyTree) -> Mask:
    """Return the weights that were ever alive, from an optimizer state; None where not sparsified.

    density(params, explored_of(opt_state)) is the in-time over-parametrisation rate. Raises InputError unless the
    optimizer state holds exactly one state of `track_explored`.

    Examples:
      >>> import optax, jaxticket as jt
      >>> static = jt.static(0.5)
      >>> tx = jt.sparsify(optax.sgd(0.1), static._replace(refresh=track_explored(static.refresh)))
      >>> explored_of(tx.init({"w": jnp.array([[1.0, 3.0]])}))
      {'w': Array([[False,  True]], dtype=bool)}
    """
    states = [s for s in jax.tree.leaves(opt_state, is_leaf=_is_explored) if _is_explored(s)]
    if len(states) != 1:
        raise InputError(f"opt_state holds {len(states)} states of track_explored; wrap the whole chain once.")
    return states[0].ever


def _is_explored(x: Any) -> bool:
    return isinstance(x, Explored)
