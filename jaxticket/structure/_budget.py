"""Channels that fit a budget."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from jaxticket._checks import check_count, check_fraction
from jaxticket.errors import InputError
from jaxticket.structure._groups import Group, Groups

Ranking = Literal["local", "global", "isomorphic"]
Cost = Callable[[Mapping[str, np.ndarray]], float]


class Budget(NamedTuple):
    """A limit to what the channels that are kept cost, as a fraction of what all of them cost.

    Attributes:
      fraction: in (0, 1].
      cost: mask of channels -> cost, which must not grow when channels go. `Groups.params` and `Groups.macs` count
        parameters and multiply-adds; None counts channels.
    """

    fraction: float
    cost: Cost | None = None


def choose(
    scores: Mapping[str, Any],
    groups: Groups,
    budget: float | Budget,
    *,
    ranking: Ranking = "local",
    multiple: int = 1,
    cap: float = 1.0,
    allow_inexact: bool = False,
) -> dict[str, np.ndarray]:
    """Keep the channels with the highest scores that fit a budget.

    Channels are dropped one after another, the least first, until the cost is within the budget. It works on the host,
    once; `select` does the same for densities under jit.

    Args:
      scores: name of a group -> scores of shape (width,), higher = more worth keeping. Groups without scores are kept.
      groups: the groups.
      budget: the fraction of channels to keep, or a Budget in parameters, multiply-adds or any other cost.
      ranking: channels compete within their group ("local": every group loses the same fraction), all together
        ("global"), or with those of groups that have the same structure ("isomorphic").
      multiple: the number of channels that a group keeps is rounded up to a multiple of it, for hardware. Groups of
        fewer channels, such as the heads of an attention, are not rounded.
      cap: the largest fraction of its channels that a group loses. At least one is always kept.
      allow_inexact: whether inexact groups take part; they are kept whole otherwise.

    Returns:
      name of a group -> bool of shape (width,), for every group, relative to the traced widths.

    Raises:
      InputError: scores of another shape or not finite, a fraction or cap outside (0, 1], a multiple below 1, another
        ranking, or a budget that cannot be met; the message says what is least.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure
      >>> params = {"a": jnp.array([[1.0, 5.0, 2.0, 3.0]] * 2), "b": jnp.ones((4, 2))}
      >>> groups = structure.trace(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((4, 2)))
      >>> scores = structure.pool(params, groups)
      >>> structure.choose(scores, groups, structure.Budget(0.5, groups.macs))
      {'a:1': array([False,  True, False,  True])}
    """
    budget = budget if isinstance(budget, Budget) else Budget(budget)
    _check(scores, groups, budget, ranking, multiple, cap)
    cost = budget.cost or _count_channels(groups)
    open_groups = [g for g in groups if g.name in scores and (g.inexact is None or allow_inexact)]
    ranks = {leaf.path: len(leaf.shape) for leaf in groups.leaves}
    leagues = {"local": range(len(open_groups)), "global": [0] * len(open_groups)}.get(
        ranking, [_shape(g, ranks) for g in open_groups]
    )
    order = _order(scores, open_groups, leagues, cap)

    def keep(dropped: int) -> dict[str, np.ndarray]:
        kept = {g.name: np.ones(g.width, bool) for g in groups}
        for name, channel in order[:dropped]:
            kept[name][channel] = False
        return {g.name: _round_up(kept[g.name], scores.get(g.name), multiple) for g in groups}

    limit = budget.fraction * cost(keep(0)) * (1 + 1e-12)  # 0.29 of 100 channels is 29
    if (least := cost(keep(len(order)))) > limit:
        raise InputError(
            f"budget: a fraction of {budget.fraction} cannot be met; with cap={cap}, multiple={multiple} and "
            f"{len(open_groups)} of {len(groups)} groups that may shrink the least is {least / cost(keep(0)):.3f}"
        )
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(keep(middle)) <= limit else (middle + 1, high)
    return keep(low)


def _check(scores: Mapping[str, Any], groups: Groups, budget: Budget, ranking: str, multiple: int, cap: float) -> None:
    check_fraction("budget", budget.fraction)
    check_fraction("cap", cap)
    check_count(1, multiple=multiple)
    if ranking not in get_args(Ranking):
        raise InputError(f"ranking is {ranking!r}; choose one of {', '.join(get_args(Ranking))}")
    if budget.fraction == 0:
        raise InputError("budget is 0; at least one channel of every group stays")
    widths = {g.name: g.width for g in groups}
    for name, score in scores.items():
        if name not in widths:
            raise InputError(f"scores: {name} is not a group; the groups are {', '.join(widths)}")
        if np.shape(score) != (widths[name],) or not np.isfinite(score).all():
            raise InputError(f"scores: the group {name} takes {widths[name]} finite scores")


def _count_channels(groups: Groups) -> Cost:
    return lambda kept: float(sum(kept[g.name].sum() for g in groups))


def _order(scores: Mapping[str, Any], groups: list[Group], leagues: Sequence[Any], cap: float) -> list[tuple[str, int]]:
    """Return the channels that may go, in the order in which they go: by their rank among the channels of a league."""
    members: dict[Any, list[tuple[float, int, int]]] = {}
    widths: Counter[Any] = Counter()
    for index, (group, league) in enumerate(zip(groups, leagues, strict=True)):
        own = np.asarray(scores[group.name], np.float64)
        ascending = np.lexsort((-np.arange(group.width), own))  # of equal scores the later channel goes first
        least = max(1, math.ceil(round(group.width * (1 - cap), 9)))
        goes = ascending[: group.width - least].tolist()
        members.setdefault(league, []).extend((own[channel], index, channel) for channel in goes)
        widths[league] += group.width
    order = []
    for league, own_members in members.items():
        ranked = sorted(own_members, key=lambda m: (m[0], m[1], -m[2]))
        order += [((rank + 1) / widths[league], index, channel) for rank, (_, index, channel) in enumerate(ranked)]
    return [(groups[index].name, channel) for _, index, channel in sorted(order, key=lambda m: m[:2])]


def _shape(group: Group, ranks: Mapping[str, int]) -> Any:
    """Return what groups of one structure have in common, whatever their widths: how their members lie in leaves."""
    return tuple(sorted((ranks[m.path], m.axis, len(m.positions[0])) for m in group.members))


def _round_up(kept: np.ndarray, scores: Any, multiple: int) -> np.ndarray:
    """Return the mask with its best dropped channels kept too, up to a multiple, in groups that hold one."""
    if kept.size < multiple:
        return kept
    lacking = min(-kept.sum() % multiple, (~kept).sum())
    if lacking:
        dropped = np.flatnonzero(~kept)
        best = dropped[np.argsort(-np.asarray(scores)[dropped], kind="stable")[:lacking]]
        kept = kept.copy()
        kept[best] = True
    return kept
