"""A traced program at the sizes that a mask of channels leaves."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from jaxticket._jaxpr import evaluate, scan_sizes, walk
from jaxticket.errors import InputError
from jaxticket.structure._channels import Channels, channels, check_exact
from jaxticket.structure._groups import Groups
from jaxticket.structure._rewrites import REWRITES
from jaxticket.structure._splits import Prefer
from jaxticket.structure._trace import Coupling, collect, couple
from jaxticket.structure._values import Node, Tape, Value
from jaxticket.structure._walk import CUSTOM, differentiable
from jaxticket.typing import Mask, PyTree


def replay(
    apply: Callable[..., Any],
    mask: Mask | Channels,
    groups: Groups,
    *,
    outputs: Callable[[Any], Any] | None = None,
    prefer: Prefer = "outer",
    allow_inexact: bool = False,
) -> Callable[..., Any]:
    """Make the function that runs variables from which channels were removed, whatever widths the model hard-codes.

    The program of `apply` is traced at the old sizes and executed at the new ones: shapes that broadcasts, reshapes,
    slices, loops and convolutions state are rewritten. Numbers that the model derived from its widths, such as the
    divisor of a mean, stay. It runs under `jit`, `grad`, `vmap` and `scan`; without `jit` each call traces again.

    Args:
      apply: the function that was traced.
      mask: as in `structure.channels`.
      groups: what `structure.trace` returned for it.
      outputs: as in `structure.trace`.
      prefer: as in `structure.trace`.
      allow_inexact: whether channels of inexact groups may be removed.

    Returns:
      (smaller variables, *inputs) -> what apply returns.

    Raises:
      InputError: a mask that does not fit the groups, or inexact groups without leave. When it runs: variables of other
        shapes than `shrink` makes, or a program whose groups are not those given.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from jaxticket import structure
      >>> params = {"a": jnp.ones((4, 6)), "b": jnp.ones((3, 2))}
      >>> def apply(params, x):  # the shape of the hidden layer is written into the program
      ...     return (x @ params["a"]).reshape(5, 2, 3)[:, 0] @ params["b"]
      >>> groups = structure.trace(apply, params, jnp.ones((5, 4)))
      >>> kept = {group.name: jnp.arange(group.width) > 0 for group in groups}
      >>> run = jax.jit(structure.replay(apply, kept, groups))
      >>> run(structure.shrink(params, kept, groups), jnp.ones((5, 4))).shape
      (5, 2)
    """
    kept = channels(mask, groups)
    check_exact(groups, kept, allow_inexact=allow_inexact)
    sizes = groups.shapes(kept)

    def run(variables: PyTree, *inputs: Any) -> Any:
        arrays, structure = jax.tree.flatten(variables)
        for x, (path, shape) in zip(arrays, sizes.items(), strict=True):
            if x.shape != shape:
                raise InputError(
                    f"variables: {path} has shape {x.shape}, not {shape}; pass what structure.shrink returned"
                )
        full = [jax.ShapeDtypeStruct(leaf.shape, x.dtype) for leaf, x in zip(groups.leaves, arrays, strict=True)]
        coupling = couple(apply, jax.tree.unflatten(structure, full), inputs, outputs=outputs, prefer=prefer)
        resized = Resized(coupling, groups, kept)
        out = resized.run(coupling.tape, [*arrays, *jax.tree.leaves(inputs)])
        return jax.tree.unflatten(coupling.result, out[len(out) - coupling.result.num_leaves :])

    return run


class Resized:
    """The labels of a program, some of whose atoms are dropped."""

    def __init__(self, coupling: Coupling, groups: Groups, kept: dict[str, np.ndarray]) -> None:
        atoms = coupling.context.atoms
        collected, owned = collect(coupling)
        if [(g.name, g.members) for g in collected] != [(g.name, g.members) for g in groups]:
            raise InputError(
                "groups are not those of this program and these inputs; trace it with inputs of this shape"
            )
        self._dropped = np.zeros(atoms.count, bool)
        for atom, (group, channel) in owned.items():
            self._dropped[atom] = not kept[collected[group].name][channel]

    def stay(self, v: Value, axis: int) -> np.ndarray:
        """Return the entries of an axis that stay."""
        return np.flatnonzero(~self._dropped[v.labels[axis]])

    def shape(self, v: Value) -> tuple[int, ...]:
        """Return the new shape of a value."""
        return tuple(int(np.sum(~self._dropped[labels])) for labels in v.labels)

    def cut(self, v: Value, x: Any) -> Any:
        """Return an array of the old shape without the entries that are dropped."""
        for axis, labels in enumerate(v.labels):
            if self._dropped[labels].any():
                x = jnp.take(x, self.stay(v, axis), axis=axis)
        return x

    def changes(self, node: Node) -> bool:
        """Whether an equation has anything to do with what is dropped."""
        return any(self._dropped[labels].any() for v in (*node.inputs, *node.outputs) for labels in v.labels)

    def run(self, tape: Tape, arrays: Sequence[Any]) -> list[Any]:
        """Execute a tape at the new sizes."""
        constants: Iterator[Value] = iter(tape.constants)
        nodes: Iterator[Node] = iter(tape.nodes)

        def step(eqn: JaxprEqn, operands: list[Any]) -> Sequence[Any]:
            return self._equation(eqn, next(nodes), operands)

        return walk(tape.jaxpr, arrays, step, lift=lambda constant: self.cut(next(constants), constant))

    def _equation(self, eqn: JaxprEqn, node: Node, operands: list[Any]) -> Sequence[Any]:
        name = eqn.primitive.name
        if not node.bodies:
            if not self.changes(node):
                return evaluate(eqn, operands)
            rewrite = REWRITES.get(name)
            if rewrite is None:
                return evaluate(eqn, operands)
            out = rewrite(self, eqn, node, operands)
            return out if isinstance(out, list) else [out]
        loop = {"scan": self._scan, "while": self._while, "cond": self._cond}.get(name)
        if loop is not None:
            return loop(eqn, node, operands)
        call = functools.partial(self._call, node.bodies[0])
        if name in ("checkpoint", "remat2"):
            policy, prevent = eqn.params["policy"], eqn.params["prevent_cse"]
            return jax.checkpoint(call, policy=policy, prevent_cse=prevent)(*operands)
        if name in CUSTOM and len(node.bodies) == 2:
            return self._custom(eqn, node, operands)
        return call(*operands)

    def _call(self, tape: Tape, *operands: Any) -> list[Any]:
        return self.run(tape, operands)

    def _custom(self, eqn: JaxprEqn, node: Node, operands: list[Any]) -> list[Any]:
        """Call a function with its own derivative, which runs at the new sizes too."""
        floats = differentiable(eqn)
        body, rule = node.bodies

        def call(*xs: Any) -> list[Any]:
            return self.run(body, xs)

        def pull(xs: Sequence[Any], cotangents: Any) -> tuple[Any, ...]:
            moved = dict(zip(floats, self.run(rule, [*xs, *cotangents]), strict=True))
            return tuple(moved.get(i) for i in range(len(xs)))

        if eqn.primitive.name == "custom_jvp_call":
            f = jax.custom_jvp(call)
            f.defjvp(lambda xs, tangents: (f(*xs), self.run(rule, [*xs, *(tangents[i] for i in floats)])))
            return f(*operands)
        g = jax.custom_vjp(call)
        g.defvjp(lambda *xs: (call(*xs), xs), pull)
        return g(*operands)

    def _scan(self, eqn: JaxprEqn, node: Node, operands: list[Any]) -> list[Any]:
        constants, state = scan_sizes(eqn)
        fixed, carry, rows = (
            operands[:constants],
            operands[constants : constants + state],
            operands[constants + state :],
        )

        def body(carry: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
            out = self.run(node.bodies[0], [*fixed, *carry, *row])
            return out[:state], out[state:]

        params = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
        carry, stacked = lax.scan(body, carry, rows, **params)
        return [*carry, *stacked]

    def _while(self, eqn: JaxprEqn, node: Node, operands: list[Any]) -> list[Any]:
        tested, used = eqn.params["cond_nconsts"], eqn.params["cond_nconsts"] + eqn.params["body_nconsts"]
        condition, body = node.bodies
        return lax.while_loop(
            lambda carry: self.run(condition, [*operands[:tested], *carry])[0],
            lambda carry: self.run(body, [*operands[tested:used], *carry]),
            operands[used:],
        )

    def _cond(self, eqn: JaxprEqn, node: Node, operands: list[Any]) -> list[Any]:
        branches = [functools.partial(self._call, tape) for tape in node.bodies]
        return lax.switch(operands[0].astype(jnp.int32), branches, *operands[1:])
