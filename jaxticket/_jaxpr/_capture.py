"""The products of a model's weights with data, read from its jaxpr, so that no model has to be changed.

A weight may reach a dot_general, ragged_dot or convolution through casts, transposes, reshapes, products with masks and
scales, slices and gathers of whole layers, calls, remat, scans over stacked layers, other loops and branches. Of the
inputs and outputs nothing is kept but the results of `measure`.
"""

import functools
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal, jaxpr_as_fun

from jaxticket import _tree
from jaxticket._jaxpr._layout import whole
from jaxticket._jaxpr._products import Product, Weight, product_of
from jaxticket._jaxpr._values import (
    Value,
    layer_slice,
    output_after,
    pick_after,
    scanned_axis,
    unstacked_after,
    weight_after,
)
from jaxticket._jaxpr._walk import ClosedJaxpr, body_of, evaluate, scan_sizes, trace, walk
from jaxticket.typing import Params, PyTree

Measure = Callable[[Product], PyTree | None]  # arrays to be summed over all products; their first axes are the leaf's
Tap = Callable[[Product, jax.Array], jax.Array]  # (product, the leaf's slot) -> its output


def captured(
    apply: Callable[[Params, PyTree], PyTree],
    params: Params,
    x: PyTree,
    measure: Measure,
    *,
    tap: Tap | None = None,
    slots: PyTree = None,
) -> tuple[PyTree, PyTree]:
    """Return the outputs of `apply(params, x)`, and the sum of `measure` over the products of each leaf with data.

    Args:
      apply: (params, x) -> outputs.
      params: pytree of arrays.
      x: the inputs.
      measure: product -> pytree of arrays, or None. The first axes of an array are the leaf's, full or 1; along the
        axis over which a scan runs it is 1, and full in the result.
      tap: takes the place of each product's output, with its biases and norms, given the slot of its leaf: an array
        laid out as measures are.
      slots: pytree with the structure of the parameters, None for leaves whose products stay as they are.

    Returns:
      The outputs, and a pytree with the structure of the parameters: None for leaves that are never multiplied.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.ones((1, 2))}
      >>> apply = lambda params, x: jnp.tanh(x @ params["w"]) + params["b"]
      >>> captured(apply, params, jnp.ones((4, 3)), lambda product: jnp.sum(product.output))[1]
      {'b': None, 'w': Array(24., dtype=float32)}
    """
    leaves, structure = jax.tree.flatten(params)
    given = [None] * len(leaves) if slots is None else _slots(params, slots)
    jaxpr, outputs = trace(apply, params, x)
    values = [
        Value(leaf, weight=Weight(i, jnp.ndim(leaf), whole(jnp.shape(leaf)), i, slot))
        for i, (leaf, slot) in enumerate(zip(leaves, given, strict=True))
    ]
    run = _Run(measure, tap)
    out = run.finish(run.walk(jaxpr, [*values, *(Value(leaf, data=True) for leaf in jax.tree.leaves(x))]))
    totals = run.totals()
    return (
        jax.tree.unflatten(outputs, [v.array for v in out]),
        jax.tree.unflatten(structure, [totals.get(i) for i in range(len(leaves))]),
    )


def order_of_use(apply: Callable[[Params, PyTree], PyTree], params: Params, x: PyTree) -> list[int]:
    """Return the indices of the leaves that are multiplied with data, in the order of their first products."""
    order: dict[int, None] = {}

    def tap(product: Product, slot: jax.Array) -> jax.Array:
        order.setdefault(product.weight.leaf)
        return product.output

    jax.eval_shape(lambda p, x: captured(apply, p, x, lambda product: None, tap=tap, slots=p), params, x)
    return list(order)


def _slots(params: Params, slots: PyTree) -> list[Any]:
    pairs = zip(_tree.leaves(params), _tree.leaves(slots), strict=True)
    return [slot for leaf, slot in pairs if leaf is not None]


class _Run:
    """One evaluation of a jaxpr, or of a loop's body."""

    def __init__(self, measure: Measure, tap: Tap | None):
        self._measure, self._tap = measure, tap
        self._products: list[Product] = []
        self._shared: set[Any] = set()  # variables that are read several times
        self._totals: dict[Hashable, PyTree] = {}

    def walk(self, jaxpr: ClosedJaxpr, values: Sequence[Value]) -> list[Value]:
        inner = jaxpr.jaxpr
        reads = Counter(x for eqn in inner.eqns for x in eqn.invars if not isinstance(x, Literal))
        reads.update(x for x in inner.outvars if not isinstance(x, Literal))
        self._shared.update(x for x, n in reads.items() if n > 1)
        return walk(jaxpr, self._share(inner.invars, values), self._step, lift=Value)

    def totals(self) -> dict[Hashable, PyTree]:
        """Return the sums of all measures, by key. Outputs have their biases and norms only after the walk."""
        for product in self._products:
            self._add(product.weight.key, self._measure(product))
        return self._totals

    def _add(self, key: Hashable, measures: PyTree | None) -> None:
        if measures is not None:
            old = self._totals.get(key)
            self._totals[key] = measures if old is None else jax.tree.map(jnp.add, old, measures)

    def _step(self, eqn: JaxprEqn, values: list[Value]) -> Sequence[Value]:
        name = eqn.primitive.name
        if any(v.weight is not None for v in values):
            # A call without weights stays whole, so that it keeps its own derivative.
            if (body := body_of(eqn)) is not None:
                return self._share(eqn.outvars, self.walk(body, values))
            loop = {"scan": self._scan, "while": self._while, "cond": self._cond}.get(name)
            if loop is not None:
                return loop(eqn, self.finish(values))
        output = output_after(eqn, values)
        if output is None:
            values = self.finish(values)
        arrays = evaluate(eqn, [v.array for v in values])
        data = any(v.data for v in values)
        if eqn.primitive.multiple_results:
            weights = unstacked_after(eqn, values)
            return self._share(eqn.outvars, [Value(x, data, w) for x, w in zip(arrays, weights, strict=True)])
        at = _weight_among(values)
        beside_data = any(v.data for i, v in enumerate(values) if i != at)
        if output is not None:
            index, layout = output
            self._products[index] = self._products[index]._replace(output=arrays[0], output_layout=layout)
            value = Value(arrays[0], data, output=output)
        elif (picked := pick_after(eqn, values)) is not None:
            value = Value(arrays[0], data, picked)
        elif at is not None and beside_data:
            value = self._multiply(eqn, values, at, arrays[0])
        else:
            value = Value(arrays[0], data, weight_after(eqn, values))
        return self._share(eqn.outvars, [value])

    def _multiply(self, eqn: JaxprEqn, values: list[Value], at: int, output: jax.Array) -> Value:
        others = [v.array for i, v in enumerate(values) if i != at]
        product = product_of(eqn, at, values[at].weight, others, output)
        if product is None:
            return Value(output, data=True)
        self._products.append(product)
        return Value(output, data=True, output=(len(self._products) - 1, product.output_layout))

    def finish(self, values: Sequence[Value]) -> list[Value]:
        """Return values that something other than a bias or norm reads: outputs of products end there."""
        return [v if v.output is None else self._finish(v.output[0]) for v in values]

    def _finish(self, index: int) -> Value:
        product = self._products[index]
        if self._tap is not None and product.weight.slot is not None:
            product = product._replace(output=self._tap(product, product.weight.slot))
            self._products[index] = product
        return Value(product.output, data=True)

    def _share(self, variables: Sequence[Any], values: Sequence[Value]) -> list[Value]:
        """Finish outputs that are read several times, as an activation does; a bias or norm is the only reader."""
        return [self.finish([v])[0] if x in self._shared else v for x, v in zip(variables, values, strict=True)]

    def _inside(self, jaxpr: ClosedJaxpr, values: list[Value]) -> tuple[list[Any], dict[Hashable, PyTree]]:
        """Return the outputs and totals of a loop's body; weights go by their position among the arguments."""
        run = _Run(self._measure, self._tap)
        keyed = [
            v._replace(weight=None if v.weight is None else v.weight._replace(key=i)) for i, v in enumerate(values)
        ]
        return [v.array for v in run.finish(run.walk(jaxpr, keyed))], run.totals()

    def _scan(self, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
        body = eqn.params["jaxpr"]
        constants, carried = scan_sizes(eqn)
        first = constants + carried
        data = any(v.data for v in values)
        state, stacked = [v.array for v in values[constants:first]], values[first:]
        axes = [scanned_axis(v) for v in stacked]
        slots = [
            None if a is None or (s := v.weight.slot) is None else jnp.moveaxis(s, a, 0) for v, a in zip(stacked, axes)
        ]

        def iterate(state: list[Any], slices: Any) -> Any:
            layers = [layer_slice(v, x, axis, slot) for v, x, axis, slot in zip(stacked, slices[0], axes, slices[1])]
            arrays, totals = self._inside(body, [*values[:constants], *(Value(s, data) for s in state), *layers])
            return arrays[: first - constants], (arrays[first - constants :], totals)

        slices = ([v.array for v in stacked], slots)
        options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
        state, (out, totals) = jax.lax.scan(iterate, state, slices, **options)
        for i, total in totals.items():
            merge = _sum if i < constants else _stack_on(axes[i - first])
            self._add(values[i].weight.key, jax.tree.map(merge, total))
        return [Value(array, data) for array in (*state, *out)]

    def _while(self, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
        skipped = eqn.params["cond_nconsts"]
        start = skipped + eqn.params["body_nconsts"]
        fixed, data = values[skipped:start], any(v.data for v in values)

        def iterate(state: list[Any]) -> Any:
            return self._inside(eqn.params["body_jaxpr"], [*fixed, *(Value(s, data) for s in state)])

        def step(carry: Any) -> Any:
            state, totals = iterate(carry[0])
            return state, jax.tree.map(jnp.add, carry[1], totals)

        def resumes(carry: Any) -> jax.Array:
            return jaxpr_as_fun(eqn.params["cond_jaxpr"])(*(v.array for v in values[:skipped]), *carry[0])[0]

        state = [v.array for v in values[start:]]
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(iterate, state)[1])
        state, totals = jax.lax.while_loop(resumes, step, (state, zeros))
        for i, total in totals.items():
            self._add(fixed[i].weight.key, total)
        return [Value(array, data) for array in state]

    def _cond(self, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
        chosen, *operands = values

        def take(jaxpr: ClosedJaxpr) -> Any:
            return self._inside(jaxpr, operands)

        branches = eqn.params["branches"]
        shapes = [jax.eval_shape(functools.partial(take, jaxpr))[1] for jaxpr in branches]
        every = {key: total for shape in shapes for key, total in shape.items()}

        def pad(jaxpr: ClosedJaxpr) -> Any:
            arrays, totals = take(jaxpr)
            missing = {key: total for key, total in every.items() if key not in totals}
            return arrays, totals | jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), missing)

        arrays, totals = jax.lax.switch(chosen.array, [functools.partial(pad, jaxpr) for jaxpr in branches])
        for i, total in totals.items():
            self._add(operands[i].weight.key, total)
        data = any(v.data for v in values)
        return [Value(array, data) for array in arrays]


def _weight_among(values: Sequence[Value]) -> int | None:
    """Return the operand that is the weight: before those that data chose, which may be inputs as well, any other."""
    weights = [i for i, v in enumerate(values) if v.weight is not None]
    return next((i for i in weights if not values[i].data), weights[0] if weights else None)


def _sum(measure: jax.Array) -> jax.Array:
    """Sum the measures of a leaf that is the same at each iteration of a scan."""
    return jnp.sum(measure, 0)


def _stack_on(axis: int) -> Callable[[jax.Array], jax.Array]:
    """Return a function that puts the measures of stacked layers on their axis of the leaf."""
    return lambda measure: jnp.moveaxis(jnp.squeeze(measure, axis + 1), 0, axis)
