"""Sums over batches that must be finite, and the batch and the leaf at fault where they are not."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket.errors import InputError
from jaxticket.typing import PyTree


def check_finite(
    total: PyTree, batches: Iterable[PyTree], measure: Callable[[PyTree], PyTree], *, name: str = ""
) -> None:
    """Raise InputError, which names the batch and the leaf, if the sum of `measure` over the batches is not finite.

    The batches are read again only to find the bad one. Traced values cannot be looked at, and pass. `name` is that of
    a total that is a single array.
    """
    bad = _unfinite(total, name)
    if not bad:
        return
    for index, batch in enumerate(batches):
        bad = _unfinite(measure(batch), name)
        if bad:
            raise InputError(
                f"batches[{index}] gives {bad[0]!r} a value that is NaN or infinite ({len(bad)} leaves in all); look "
                "for such numbers in the batch, the parameters and the loss, or leave the batch out."
            )
    raise InputError(f"the sum over batches is not finite at {_unfinite(total, name)[0]!r}; scale the loss down.")


def _unfinite(tree: PyTree, name: str) -> list[str]:
    """Return the names of leaves that hold a NaN or an infinity."""
    pairs = zip(_tree.leaves(_tree.names(tree)), _tree.leaves(tree), strict=True)
    known = [(path, x) for path, x in pairs if x is not None and not isinstance(x, jax.core.Tracer)]
    return [path or name for path, x in known if not bool(jnp.isfinite(x).all())]
