"""SparseGPT: prune a trained model layer by layer and let the remaining weights make up for the pruned ones.

A layer has inputs X and H = XᵀX + damping. Inputs are visited in order. When a weight is pruned, the weights of later
inputs to the same output take the update of the optimal brain surgeon. U, the Cholesky factor of H⁻¹ = UᵀU, holds it
for all inputs at once. A whole block of inputs is decided together, when all earlier ones are done.

Layers follow each other: a layer's inputs are those that the pruned layers before it give. (Stacked layers of one scan
share a leaf, and with it one pass: they see each other's dense outputs.) Each leaf costs one pass over the batches, up
to its layer, and one compilation of that. Or all layers see the dense network, as in a block of the authors' code. That
prunes up to and with the weight of rank sparsity · n, one too many; here counts are exact.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, scopes
from jaxticket._checks import check_fraction
from jaxticket._dtypes import wide
from jaxticket._finite import check_finite
from jaxticket._jaxpr import Product, captured, gram, order_of_use
from jaxticket.errors import InputError
from jaxticket.reparam._base import only_real
from jaxticket.scopes import Scope
from jaxticket.selection import select
from jaxticket.typing import Filter, Mask, Params, PyTree

__all__ = ["sparsegpt"]


def sparsegpt(
    params: Params,
    apply: Callable[[Params, PyTree], PyTree],
    batches: Iterable[PyTree],
    density: float,
    *,
    group: int | None = None,
    block: int = 128,
    damping: float = 0.01,
    sequential: bool = True,
    where: Filter | PyTree = filters.weights(),
) -> tuple[Params, Mask]:
    """Prune trained parameters and update the remaining ones (SparseGPT; Frantar & Alistarh, 2023).

    Args:
      params: the trained parameters.
      apply: (params, x) -> outputs.
      batches: inputs x, read once for each leaf.
      density: the fraction kept, exactly round-half-even(density · n) of the n weights of each block of inputs.
      group: m of N:M sparsity: of each m inputs every output keeps density · m, as with `scopes.groups`. Groups lie
        along the last axis of inputs: for a convolution's kernel they start again at each tap.
      block: the inputs whose weights are chosen together, without groups.
      damping: added to the diagonal of XᵀX, as a fraction of its mean over inputs that are not always 0 (the authors'
        code counts 1 for each of those, whatever the inputs' scale). Weights of inputs that are always 0 are pruned
        first.
      sequential: whether a layer's inputs come from the pruned layers before it, and not from the dense network.
      where: the leaves that are pruned.

    Returns:
      The parameters and their mask.

    Raises:
      InputError: an argument out of its range; batches that are empty or can be read only once; a leaf that is not
        multiplied with data, or of which each part has inputs of its own (grouped convolutions, batches of matrices).

    Examples:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0]])  # the second input is twice the first
      >>> params, mask = sparsegpt({"w": jnp.array([[1.0], [3.0]])}, lambda p, x: x @ p["w"], [x], 0.5, damping=1e-6)
      >>> print(params["w"].round(2).T, mask["w"].T)
      [[0. 3.5]] [[False  True]]
    """
    _check(density, batches, group=group, block=block, damping=damping)
    chosen = only_real(params, where)
    names, wanted = _tree.leaves(_tree.names(params)), _tree.leaves(chosen)
    present = [i for i, leaf in enumerate(_tree.leaves(params)) if leaf is not None]
    first = next(iter(batches), None)
    if first is None:
        raise InputError("batches is empty; pass at least one batch.")
    order = [present[i] for i in order_of_use(apply, params, first)]
    missing = [names[i] for i in present if wanted[i] is not None and i not in order]
    if missing:
        raise InputError(
            f"{missing} are never multiplied with data, so they have no inputs; leave them out with where=."
        )

    structure = _tree.structure(params)
    leaves = _tree.leaves(params)
    masks: list[Any] = [None] * len(leaves)
    sizes: dict[str, Any] = {"size": group or block, "grouped": group is not None}
    pruned = [(i, names[i]) for i in order if wanted[i] is not None]
    for part in filter(None, [[leaf] for leaf in pruned] if sequential else [pruned]):
        used = tuple((present.index(i), name) for i, name in part)
        measure = functools.partial(_grams, apply, structure.unflatten(leaves), wanted=used)
        totals = functools.reduce(functools.partial(jax.tree.map, jnp.add), map(measure, batches))
        check_finite(totals, batches, measure)
        for i, name in part:
            leaves[i], masks[i] = _prune_leaf(leaves[i], totals[name], density, damping, **sizes)
            if not bool(jnp.isfinite(leaves[i]).all()):
                raise InputError(
                    f"{name}: inputs depend on each other so closely that damping={damping} leaves them singular in "
                    "float32; pass a larger damping, such as 0.01, or more batches."
                )
    return structure.unflatten(leaves), structure.unflatten(masks)


@functools.partial(jax.jit, static_argnames=("apply", "wanted"))
def _grams(
    apply: Callable[[Params, PyTree], PyTree], params: Params, x: PyTree, *, wanted: tuple[tuple[int, str], ...]
) -> dict[str, jax.Array]:
    """Return XᵀX of the inputs of leaves, by their names; `wanted` are their numbers and names."""
    names, shapes = dict(wanted), dict[str, tuple[int, ...]]()

    def measure(product: Product) -> jax.Array | None:
        if (name := names.get(product.weight.leaf)) is None:
            return None
        squares = gram(product)
        if shapes.setdefault(name, squares.shape) != squares.shape:
            raise InputError(f"{name} is multiplied along different axes in its uses; leave it out with where=.")
        return squares

    measured = jax.tree.leaves(captured(apply, params, x, measure)[1])
    return {names[leaf]: squares for leaf, squares in zip(sorted(names), measured, strict=True)}


def _prune_leaf(
    weight: jax.Array, squares: jax.Array, density: float, damping: float, *, size: int, grouped: bool
) -> tuple[jax.Array, jax.Array]:
    """Return a leaf pruned and updated, and its mask. `squares` has the leaf's axes twice, as `gram` gives them."""
    inputs = [a for a in range(weight.ndim) if squares.shape[weight.ndim + a] != 1]
    layers = [a for a in range(weight.ndim) if squares.shape[a] != 1 and a not in inputs]
    order = [*layers, *inputs, *(a for a in range(weight.ndim) if a not in (*layers, *inputs))]
    width = math.prod(weight.shape[a] for a in inputs)
    stack = math.prod(weight.shape[a] for a in layers)
    # Groups stay within a tap: those of different taps do not lie side by side.
    run = weight.shape[inputs[-1]] if grouped and inputs else width
    size = max(1, min(size, run))
    matrices = jnp.transpose(weight, order).reshape(stack, width, -1)
    both = jnp.transpose(squares, (*order, *(weight.ndim + a for a in order))).reshape(stack, width, width)

    def fraction(inputs: int) -> jax.Array:
        n = inputs if grouped else inputs * matrices.shape[2]
        kept = min(max(round(density * n), density > 0), n)
        return jnp.float32(kept / n if n else 0)  # its product with n rounds to the count, which is traced like it

    dtype = jnp.promote_types(wide(matrices).dtype, both.dtype)
    pruned, mask = _prune(
        matrices.astype(dtype),
        both.astype(dtype),
        fraction(size),
        fraction(run % size),
        damping,
        size=size,
        run=run,
        grouped=grouped,
    )
    shape, back = [weight.shape[a] for a in order], [order.index(a) for a in range(weight.ndim)]
    return (
        jnp.transpose(pruned.reshape(shape), back).astype(weight.dtype),
        jnp.transpose(mask.reshape(shape), back),
    )


@functools.partial(jax.jit, static_argnames=("size", "run", "grouped"))
def _prune(
    matrices: jax.Array,
    squares: jax.Array,
    density: jax.Array,
    rest: jax.Array,
    damping: float,
    *,
    size: int,
    run: int,
    grouped: bool,
) -> tuple[jax.Array, jax.Array]:
    """Prune matrices (stack, inputs, outputs) in blocks of `size` inputs.

    Each `run` of inputs is split into blocks; `rest` is the density of a last, smaller one.
    """
    scope = scopes.groups(size, axis=0) if grouped else scopes.leaf()

    def prune_matrix(matrix: jax.Array, squares: jax.Array) -> tuple[jax.Array, jax.Array]:
        matrix, factor = _factor(matrix, squares, damping)
        blocks, last = divmod(run, size)

        def prune_run(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            def block(j: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
                return _prune_block(carry, factor, density, start=i * run + j * size, size=size, scope=scope)

            carry = jax.lax.fori_loop(0, blocks, block, carry)
            start = i * run + blocks * size
            return _prune_block(carry, factor, rest, start=start, size=last, scope=scope) if last else carry

        runs = matrix.shape[0] // run if run else 0
        return jax.lax.fori_loop(0, runs, prune_run, (matrix, jnp.ones(matrix.shape, bool)))

    return jax.vmap(prune_matrix)(matrices, squares)


def _factor(matrix: jax.Array, squares: jax.Array, damping: float) -> tuple[jax.Array, jax.Array]:
    """Return the matrix without inputs that are always 0, and U of (XᵀX / its mean diagonal + damping)⁻¹."""
    diagonal = jnp.diagonal(squares)
    live = diagonal > 0
    mean = jnp.mean(diagonal, where=live)
    hessian = squares / jnp.where(jnp.any(live), mean, 1) + jnp.diag(jnp.where(live, 0, 1) + damping)
    eye = jnp.eye(len(squares), dtype=squares.dtype)
    inverse = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(hessian), True), eye)
    return jnp.where(live[:, None], matrix, 0), jnp.linalg.cholesky(inverse).T


def _prune_block(
    carry: tuple[jax.Array, jax.Array],
    factor: jax.Array,
    density: jax.Array,
    *,
    start: int | jax.Array,
    size: int,
    scope: Scope,
) -> tuple[jax.Array, jax.Array]:
    """Return `carry` after the inputs from `start` on are pruned and all later ones updated."""
    matrix, mask = carry
    rows = jax.lax.dynamic_slice_in_dim(matrix, start, size)
    upper = jax.lax.dynamic_slice_in_dim(factor, start, size)
    own = jax.lax.dynamic_slice_in_dim(upper, start, size, axis=1)
    kept = select(jnp.square(rows / jnp.diagonal(own)[:, None]), density, scope=scope)

    def prune_input(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rows, errors = carry
        error = jnp.where(kept[i], 0, rows[i]) / own[i, i]
        return rows - own[i][:, None] * error[None], errors.at[i].set(error)  # row i of U is zero before i

    rows, errors = jax.lax.fori_loop(0, size, prune_input, (rows, jnp.zeros_like(rows)))
    later = jnp.arange(len(factor)) >= start + size
    update = jnp.matmul(jnp.where(later[None], upper, 0).T, errors, precision=jax.lax.Precision.HIGHEST)
    matrix = jax.lax.dynamic_update_slice_in_dim(matrix - update, jnp.where(kept, rows, 0), start, 0)
    return matrix, jax.lax.dynamic_update_slice_in_dim(mask, kept, start, 0)


def _check(density: float, batches: Iterable[PyTree], *, group: int | None, block: int, damping: float) -> None:
    check_fraction("density", density)
    if block < 1 or (group is not None and group < 1):
        raise InputError(f"block={block} and group={group} count inputs; pass 1 or more.")
    if not 0 < damping < math.inf:
        raise InputError(f"damping={damping} must be positive and finite: without it XᵀX may have no inverse.")
    if iter(batches) is batches:
        raise InputError(f"batches is a {type(batches).__name__}, which can be read only once; pass list(batches).")
