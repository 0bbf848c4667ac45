"""Groups of coupled channels, as data."""

import dataclasses
import functools
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxticket.errors import InputError


class Member(NamedTuple):
    """The part of a group in one leaf.

    Attributes:
      path: the leaf.
      axis: its axis on which the channels lie.
      positions: for each channel, its entries along that axis.
    """

    path: str
    axis: int
    positions: tuple[tuple[int, ...], ...]


class Group(NamedTuple):
    """Channels that are coupled in the same way: any of them can be removed, with what belongs to it in every member.

    Attributes:
      name: the path and axis of its first weight matrix, such as 'conv1/kernel:3'.
      width: the number of channels.
      members: where they lie.
      inexact: why removing a channel changes more than zeroing it does, or None.
      params: the entries of all members.
      share: the fraction of all multiply-adds that runs on its channels.
    """

    name: str
    width: int
    members: tuple[Member, ...]
    inexact: str | None
    params: int
    share: float


class Leaf(NamedTuple):
    """A leaf of the traced variables."""

    path: str
    shape: tuple[int, ...]


class Frozen(NamedTuple):
    """Entries of an axis that cannot be removed, and why."""

    path: str
    axis: int
    entries: int
    reason: str


class Work(NamedTuple):
    """The multiply-adds of one product: `factor` times, for each axis, its fixed entries plus those of groups.

    Attributes:
      factor: how often the product runs, times the sizes of its fixed axes.
      axes: for each other axis, (fixed entries, ((index of the group, entries a channel), …)).
    """

    factor: int
    axes: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]

    def count(self, kept: Sequence[int]) -> int:
        """Return the multiply-adds where each group keeps that many channels."""
        return self.factor * math.prod(
            fixed + sum(kept[group] * entries for group, entries in parts) for fixed, parts in self.axes
        )


@dataclasses.dataclass(frozen=True)
class Groups:
    """The groups of a program, in the order in which it reads them; they print as a table.

    It is data: hashable, compared by value, and written to JSON.

    Attributes:
      groups: the groups.
      leaves: the leaves of the traced variables.
      frozen: the entries that cannot be removed.
      unused: the leaves that the program does not read; they stay as they are.
      unknown: primitives without a rule, whose operands are frozen.
      work: the products of the program.
    """

    groups: tuple[Group, ...]
    leaves: tuple[Leaf, ...]
    frozen: tuple[Frozen, ...]
    unused: tuple[str, ...]
    unknown: tuple[str, ...]
    work: tuple[Work, ...]

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.groups, self.leaves, self.frozen, self.unused, self.unknown, self.work))

    def __hash__(self) -> int:  # once: as part of a unit it is an argument of every compiled selection
        return self._hash

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, key: str | int) -> Group:
        """Return a group by its name or index. Raises InputError for a name that is not there."""
        if isinstance(key, int):
            return self.groups[key]
        for group in self.groups:
            if group.name == key:
                return group
        raise InputError(f"{key!r} is not a group; the groups are {', '.join(g.name for g in self.groups)}")

    def only(self, names: Collection[str]) -> "Groups":
        """Return the groups with these names; the channels of the others stay, as if they were frozen.

        `structure.choose` and `obspa` then choose among these alone. `structure.replay` needs all groups.

        Raises InputError for a name that is not there.
        """
        for name in names:
            self[name]
        index = {old: new for new, old in enumerate(i for i, g in enumerate(self.groups) if g.name in names)}

        def fix(fixed: int, parts: Sequence[tuple[int, int]]) -> tuple[int, tuple[tuple[int, int], ...]]:
            whole = sum(self.groups[i].width * times for i, times in parts if i not in index)
            return fixed + whole, tuple((index[i], times) for i, times in parts if i in index)

        work = tuple(Work(w.factor, tuple(fix(*axis) for axis in w.axes)) for w in self.work)
        return dataclasses.replace(self, groups=tuple(self.groups[i] for i in index), work=work)

    def macs(self, channels: Mapping[str, Any] | None = None) -> int:
        """Return the multiply-adds of the program, with the channels kept that are marked; all by default.

        Args:
          channels: name of a group -> bool of shape (width,), True for channels that are kept.

        Returns:
          The multiply-adds of the traced inputs' whole batch.
        """
        kept = self.widths(channels)
        return sum(work.count(kept) for work in self.work)

    def widths(self, channels: Mapping[str, Any] | None = None) -> list[int]:
        """Return how many channels each group has, with the channels kept that are marked; all by default."""
        return [
            g.width if channels is None or g.name not in channels else int(np.sum(channels[g.name]))
            for g in self.groups
        ]

    def params(self, channels: Mapping[str, Any] | None = None) -> int:
        """Return the entries of all leaves, with the channels kept that are marked; all by default."""
        return sum(math.prod(shape) for shape in self.shapes(channels).values())

    def shapes(self, channels: Mapping[str, Any] | None = None) -> dict[str, tuple[int, ...]]:
        """Return the shape of every leaf, with the channels kept that are marked; all by default."""
        shapes = {leaf.path: list(leaf.shape) for leaf in self.leaves}
        for group in self.groups:
            if channels is not None and group.name in channels:
                dropped = np.flatnonzero(~np.asarray(channels[group.name]))
                for member in group.members:
                    shapes[member.path][member.axis] -= sum(len(member.positions[c]) for c in dropped)
        return {path: tuple(shape) for path, shape in shapes.items()}

    def to_json(self) -> str:
        """Return the groups as JSON, which `Groups.from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Groups":
        """Return the groups that `to_json` wrote. Raises InputError for other text."""
        try:
            data = {key: _tuples(x) for key, x in json.loads(text).items()}
            groups = tuple(Group(*g)._replace(members=tuple(Member(*m) for m in g[2])) for g in data["groups"])
            rest = {"leaves": Leaf, "frozen": Frozen, "work": Work}
            kinds = {name: tuple(kind(*x) for x in data[name]) for name, kind in rest.items()}
            return cls(groups=groups, unused=data["unused"], unknown=data["unknown"], **kinds)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"text does not hold groups as Groups.to_json writes them: {error!r}") from error

    def __str__(self) -> str:
        total, macs = self.params(), max(self.macs(), 1)
        rows = [("group", "width", "params", "MACs", "members", "")]
        for g in self.groups:
            members = ", ".join(f"{m.path}:{m.axis}" for m in g.members[:4]) + (
                f" and {len(g.members) - 4} more" if len(g.members) > 4 else ""
            )
            rows.append((g.name, str(g.width), f"{g.params / total:.1%}", f"{g.share:.1%}", members, g.inexact or ""))
        lines = _align(rows)
        lines.append(f"{total:,} parameters, {macs:,} multiply-adds")
        reasons: dict[str, list[str]] = {}
        for f in self.frozen:
            reasons.setdefault(f.reason, []).append(f"{f.path}:{f.axis}")
        lines += [f"frozen, {why}: {_shorten(where)}" for why, where in reasons.items()]
        lines += [f"primitives without a rule: {_shorten(self.unknown)}"] if self.unknown else []
        lines += [f"not read by the program: {_shorten(self.unused)}"] if self.unused else []
        return "\n".join(lines)

    def svg(self, channels: Mapping[str, Any] | None = None) -> str:
        """Return a picture of the widths, as SVG: a bar a group, filled up to the channels that are kept."""
        longest = max((g.width for g in self.groups), default=1)
        left = 20 + 7 * max((len(g.name) for g in self.groups), default=0)  # 7 is the width of a letter
        rows = []
        for i, g in enumerate(self.groups):
            kept = g.width if channels is None or g.name not in channels else int(np.sum(channels[g.name]))
            y, full, part = 20 * i + 5, 300 * g.width / longest, 300 * kept / longest
            colour = "#4878a8" if g.inexact is None else "#c08030"
            rows.append(
                f'<text x="{left - 10}" y="{y + 11}" text-anchor="end">{_escape(g.name)}</text>'
                f'<rect x="{left}" y="{y}" width="{full:.1f}" height="14" fill="{colour}" opacity=".3"/>'
                f'<rect x="{left}" y="{y}" width="{part:.1f}" height="14" fill="{colour}"/>'
                f'<text x="{left + full + 5:.1f}" y="{y + 11}">{kept} of {g.width}</text>'
            )
        size = f'width="{left + 405}" height="{20 * len(self.groups) + 10}"'
        style = 'font-family="sans-serif" font-size="11"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{"".join(rows)}</svg>'

    def _repr_svg_(self) -> str:
        return self.svg()


def _tuples(x: Any) -> Any:
    return tuple(map(_tuples, x)) if isinstance(x, list) else x


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]


def _shorten(items: Sequence[str]) -> str:
    return ", ".join(items[:6]) + (f" and {len(items) - 6} more" if len(items) > 6 else "")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
