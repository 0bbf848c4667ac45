"""The trace of a function's couplings."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from jaxticket import _jaxpr, _tree
from jaxticket.errors import InputError
from jaxticket.structure._groups import Frozen, Group, Groups, Leaf, Member, Work
from jaxticket.structure._owners import owners_within
from jaxticket.structure._splits import Prefer, resolve
from jaxticket.structure._values import Context, Node, Product, Tape, Value
from jaxticket.structure._walk import record
from jaxticket.typing import PyTree


class Coupling(NamedTuple):
    """A labelled program."""

    context: Context
    tape: Tape
    leaves: tuple[Leaf, ...]
    values: tuple[Value, ...]  # of the leaves
    first_use: tuple[int | None, ...]  # for each leaf, the first equation that reads it; None: the program does not
    result: Any  # the structure of what apply returns


def trace(
    apply: Callable[..., Any],
    variables: PyTree,
    *inputs: Any,
    outputs: Callable[[Any], Any] | None = None,
    prefer: Prefer = "outer",
) -> Groups:
    """Find the channels that can be removed only together, from the jaxpr of a function.

    Every entry of every axis of every leaf is an atom; the equations of the program join atoms, or freeze them. What is
    left are classes of entries, one a removable channel, and classes with members in the same places form a group. No
    model is annotated, and arrays may be `jax.ShapeDtypeStruct`. Removing a channel of a group
    that is not `inexact` gives the outputs of the same network with all members of the channel zeroed.

    Args:
      apply: (variables, *inputs) -> result, with static options bound.
      variables: a pytree of arrays: parameters, and batch statistics beside them.
      *inputs: pytrees of arrays. Their sizes do not matter, except that axes of size 1 are broadcast.
      outputs: result -> the part of it whose shapes must stay; None for all of it. A function that returns new batch
        statistics beside its logits takes one.
      prefer: where an axis is split into several that could be pruned, such as (heads, head size), the one that is:
        the outer one (whole heads) or the inner one (the same entries of every head).

    Returns:
      Groups.

    Raises:
      InputError: leaves that are not arrays or have the same path, or another `prefer`.

    References:
      Fang et al. (2023), DepGraph: Towards Any Structural Pruning; Wang et al. (2024), SPA.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> params = {"first": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}, "second": {"kernel": jnp.ones((3, 2))}}
      >>> def apply(params, x):
      ...     hidden = jax.nn.relu(x @ params["first"]["kernel"] + params["first"]["bias"][None])
      ...     return hidden @ params["second"]["kernel"]
      >>> (group,) = trace(apply, params, jnp.ones((5, 4)))
      >>> group.name, group.width, [(m.path, m.axis) for m in group.members]
      ('first/kernel:1', 3, [('first/bias', 0), ('first/kernel', 1), ('second/kernel', 0)])
    """
    coupling = couple(apply, variables, inputs, outputs=outputs, prefer=prefer)
    atoms = coupling.context.atoms
    groups, group_of = collect(coupling)
    frozen: Counter[tuple[str, int, str]] = Counter()
    for leaf, value, use in zip(coupling.leaves, coupling.values, coupling.first_use, strict=True):
        for axis, labels in enumerate(value.labels if use is not None else ()):
            if len(labels) == 1:
                continue
            reasons = [atoms.why_frozen(a) or "it is the only channel of its kind" for a in labels if a not in group_of]
            frozen.update((leaf.path, axis, reason) for reason in reasons)
    work = tuple(
        count_work((*product.output, *product.summed), times, groups, group_of)
        for _, _, product, times in products(coupling.tape)
    )
    traced = Groups(
        groups=groups,
        leaves=coupling.leaves,
        frozen=tuple(Frozen(path, axis, count, reason) for (path, axis, reason), count in frozen.items()),
        unused=tuple(leaf.path for leaf, use in zip(coupling.leaves, coupling.first_use, strict=True) if use is None),
        unknown=tuple(coupling.context.unknown),
        work=work,
    )
    return _with_shares(traced)


def couple(
    apply: Callable[..., Any],
    variables: PyTree,
    inputs: Sequence[Any],
    *,
    outputs: Callable[[Any], Any] | None,
    prefer: Prefer,
) -> Coupling:
    """Label a program and decide which axes of reshapes are pruned."""
    if prefer not in ("outer", "inner"):
        raise InputError(f"prefer is {prefer!r}; choose 'outer' or 'inner'")
    leaves = _leaves(variables)
    fixed = outputs or (lambda result: result)

    def run(variables: PyTree, *inputs: Any) -> Any:
        result = apply(variables, *inputs)
        return fixed(result), result

    jaxpr, structure = _jaxpr.trace(run, variables, *inputs)
    context = Context()
    values = [context.fresh(leaf.shape) for leaf in leaves]
    values = [v._replace(null=(True,) * len(v.null)) for v in values]
    entering = [
        context.pinned(_jaxpr.shape_of(var), "an axis of the inputs") for var in jaxpr.jaxpr.invars[len(leaves) :]
    ]
    tape = record(context, jaxpr, [*values, *entering])
    stay, result = structure.children()
    for v in tape.outputs[: stay.num_leaves]:
        context.freeze(v, "an axis of the outputs")
    first_use = _first_use(tape, len(leaves))
    first_use = _tie_returned(context, tape, leaves, values, first_use, result)
    _freeze_unread(context, tape, values, first_use)
    resolve(context.atoms, context.splits, prefer)
    return Coupling(context, tape, leaves, tuple(values), tuple(first_use), result)


def _first_use(tape: Tape, leaves: int) -> list[int | None]:
    """Return for each leaf the first equation that reads it, None where no equation does."""
    used: dict[Any, int] = {}
    for index, eqn in enumerate(tape.jaxpr.jaxpr.eqns):
        for var in eqn.invars:
            if not isinstance(var, Literal):
                used.setdefault(var, index)
    return [used.get(var) for var in tape.jaxpr.jaxpr.invars[:leaves]]


def _tie_returned(
    context: Context,
    tape: Tape,
    leaves: Sequence[Leaf],
    values: Sequence[Value],
    first_use: Sequence[int | None],
    result: Any,
) -> list[int | None]:
    """Join leaves that nothing reads with what is returned under their path: averages that a training step replaces.

    Returns `first_use`, in which they are read after the last equation.
    """
    unread = {leaf.path: i for i, leaf in enumerate(leaves) if first_use[i] is None}
    returned = tape.outputs[len(tape.outputs) - result.num_leaves :]
    owned = owners_within(jax.tree.unflatten(result, range(len(returned))), [leaf.path for leaf in leaves])
    tied = list(first_use)
    for leaf, v in zip(owned, returned, strict=True):
        path = leaf.paths[0] if len(leaf.paths) == 1 else None
        if path in unread and values[unread[path]].shape == v.shape:
            index = unread.pop(path)
            context.join(values[index], v)
            tied[index] = len(tape.nodes)
    return tied


def _freeze_unread(context: Context, tape: Tape, values: Sequence[Value], first_use: Sequence[int | None]) -> None:
    """Freeze leaves that nothing reads, and entries that a slice leaves out, as positions behind the sequence's end."""
    reason = "the program does not read it"
    seen = np.zeros(context.atoms.count, bool)
    _mark_read(tape, seen)
    for v, use in zip(values, first_use, strict=True):
        if use is None:
            context.freeze(v, reason)
        elif use < len(tape.nodes):
            for labels in v.labels:
                context.atoms.freeze(labels[~seen[labels]], reason)


def _mark_read(tape: Tape, seen: np.ndarray) -> None:
    """Mark the atoms that a program reads: all that enter an equation, but of a slice those that leave it."""
    for eqn, node in zip(tape.jaxpr.jaxpr.eqns, tape.nodes, strict=True):
        for body in node.bodies:
            _mark_read(body, seen)
        if node.bodies:
            continue
        sliced = eqn.primitive.name in ("slice", "dynamic_slice")
        for v in node.outputs if sliced else (*node.inputs, *node.outputs):
            for labels in v.labels:
                seen[labels] = True


def _leaves(variables: PyTree) -> tuple[Leaf, ...]:
    arrays = jax.tree.leaves(variables)
    names = _tree.present_names(variables)
    if not arrays:
        raise InputError("variables holds no arrays; pass the parameters of the network")
    for name, x in zip(names, arrays, strict=True):
        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            raise InputError(
                f"variables: {name} is a {type(x).__name__}, not an array; bind what is not an array in apply"
            )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"variables: several leaves are called {twice[0]}; give them paths that differ")
    return tuple(Leaf(name, tuple(x.shape)) for name, x in zip(names, arrays, strict=True))


def collect(coupling: Coupling) -> tuple[tuple[Group, ...], dict[int, tuple[int, int]]]:
    """Return the groups, and for every atom of a leaf that is in one its (index of the group, channel)."""
    atoms = coupling.context.atoms
    classes: dict[int, dict[tuple[int, int], list[int]]] = defaultdict(dict)
    for leaf, value in enumerate(coupling.values):
        for axis, labels in enumerate(value.labels):
            free = np.flatnonzero(~atoms.frozen(labels))
            for position, root in zip(free.tolist(), atoms.roots(labels[free]).tolist(), strict=True):
                classes[root].setdefault((leaf, axis), []).append(position)
    alike: dict[Any, list[int]] = defaultdict(list)
    for root, where in classes.items():
        alike[tuple((place, len(positions)) for place, positions in sorted(where.items()))].append(root)
    kinds = [(signature, roots) for signature, roots in alike.items() if len(roots) > 1]
    kinds.sort(key=lambda kind: _rank(coupling, _namesake(coupling, kind[0])))
    groups: list[Group] = []
    index_of: dict[int, tuple[int, int]] = {}
    names: Counter[str] = Counter()
    for signature, roots in kinds:
        members = tuple(
            Member(coupling.leaves[leaf].path, axis, tuple(tuple(classes[root][leaf, axis]) for root in roots))
            for (leaf, axis), _ in signature
        )
        first, axis = _namesake(coupling, signature)
        name = f"{coupling.leaves[first].path}:{axis}"
        names[name] += 1
        name += f"#{names[name]}" if names[name] > 1 else ""
        reasons = [why for root in roots if (why := atoms.why_inexact(root))]
        index_of.update({root: (len(groups), channel) for channel, root in enumerate(roots)})
        groups.append(Group(name, len(roots), members, reasons[0] if reasons else None, 0, 0.0))
    everywhere = np.arange(atoms.count)
    owned = {a: index_of[root] for a, root in enumerate(atoms.roots(everywhere).tolist()) if root in index_of}
    return tuple(groups), owned


def _namesake(coupling: Coupling, signature: Sequence[tuple[tuple[int, int], int]]) -> tuple[int, int]:
    """Return the member that gives a group its name: the matrix that the program reads first."""
    places = [place for place, _ in signature]
    matrices = [p for p in places if sum(n > 1 for n in coupling.leaves[p[0]].shape) > 1]
    return min(matrices or places, key=lambda place: _rank(coupling, place))


def _rank(coupling: Coupling, place: tuple[int, int]) -> tuple[int, int, int]:
    use = coupling.first_use[place[0]]
    return (-1 if use is None else use, *place)


def products(tape: Tape, repeats: int = 1) -> Iterator[tuple[JaxprEqn, Node, Product, int]]:
    """Yield the products of a tape with how often they run; the branches of a condition all count."""
    times = repeats * tape.repeats
    for eqn, node in zip(tape.jaxpr.jaxpr.eqns, tape.nodes, strict=True):
        if times and node.product is not None:
            yield eqn, node, node.product, times
        for body in node.bodies:
            yield from products(body, times)


def count_work(
    axes_of: Sequence[np.ndarray], factor: int, groups: Sequence[Group], group_of: dict[int, tuple[int, int]]
) -> Work:
    """Return the sizes of axes, multiplied, as they depend on the channels that are kept."""
    axes = []
    for labels in axes_of:
        owners = Counter(group_of[a][0] for a in labels.tolist() if a in group_of)
        fixed = len(labels) - owners.total()
        if owners:
            axes.append((fixed, tuple((g, count // groups[g].width) for g, count in owners.items())))
        else:
            factor *= fixed
    return Work(factor, tuple(axes))


def _with_shares(traced: Groups) -> Groups:
    """Fill in the parameters of every group and its share of the multiply-adds."""
    params, macs = traced.params(), traced.macs()
    nothing = {g.name: np.zeros(g.width, bool) for g in traced}
    groups = []
    for g in traced:
        without = {g.name: nothing[g.name]}
        share = 1 - traced.macs(without) / macs if macs else 0.0
        groups.append(g._replace(params=params - traced.params(without), share=share))
    return dataclasses.replace(traced, groups=tuple(groups))
