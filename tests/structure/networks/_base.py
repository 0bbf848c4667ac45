"""A network with the coupled channels that it has, derived by hand, and the notation in which they are written."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Place(NamedTuple):
    """The positions of a group's channels along an axis of a leaf.

    `region` takes positions of the axis, which are then laid out as (repeats, width, inner): channel c owns
    `[:, c, :]`. So the rows of heads in a fused projection have an inner size of head_dim, and a flattened image in the
    order HWC has repeats of H·W. `shift` rotates the region first: channel 0 starts at that position.
    """

    path: str
    axis: int
    region: slice = slice(None)
    inner: int = 1
    shift: int = 0

    def positions(self, width: int, size: int) -> np.ndarray:
        """Return the positions as an array [repeats, width, inner]."""
        return np.roll(np.arange(size)[self.region], -self.shift).reshape(-1, width, self.inner)


class Expected(NamedTuple):
    """A group of channels that are removable one by one.

    `exact`: False where removal changes a statistic (LayerNorm), None where it is exact by arithmetic, but a sum over
    the axis cannot be told from a mean. `required`: False where freezing the group would be safe too. `symmetric`:
    exchanging two channels in all places leaves the output as it is; not so where constants differ by channel.
    """

    width: int
    places: tuple[Place, ...]
    exact: bool | None = True
    required: bool = True
    symmetric: bool = True

    @property
    def members(self) -> frozenset[tuple[str, int]]:
        """The pairs of a path and an axis."""
        return frozenset((place.path, place.axis) for place in self.places)


class Network(NamedTuple):
    """A function of variables and data, with the answer that a trace of it must give.

    A group of width 1 is never listed, since one channel must stay: axes of size 1 are neither members nor frozen.

    `frozen` holds the axes no position of which is removable. `outputs` selects what keeps its shape, None is all.
    `polymorphic`: the function reads its sizes from the variables, so it also runs once channels are removed.
    """

    name: str
    apply: Callable[..., Any]
    variables: Any
    inputs: tuple[Any, ...]
    groups: tuple[Expected, ...]
    frozen: frozenset[tuple[str, int]]
    outputs: Callable[[Any], Any] | None = None
    polymorphic: bool = True


def group(width: int, places: str, *, exact: bool | None = True, required: bool = True, symmetric: bool = True):
    """Return a group whose places are written as 'path:axes[start:stop:step]/inner+shift', with blanks between.

    Several digits are several axes. The region, the inner size and the shift may be left out.

    Examples:
      >>> group(2, "qkv/kernel:1/4 out/kernel:0[8:16]/4").places[1]
      Place(path='out/kernel', axis=0, region=slice(8, 16, None), inner=4, shift=0)
    """
    parsed = [place for text in places.split() for place in _parse(text)]
    return Expected(width, tuple(parsed), exact, required, symmetric)


def _parse(text: str) -> list[Place]:
    path, rest = text.rsplit(":", 1) if "[" not in text else text[: text.index("[")].rsplit(":", 1)
    tail = text[len(path) + 1 + len(rest) :] if "[" in text else ""
    region = slice(None)
    if tail:
        inside, tail = tail[1:].split("]")
        region = slice(*(int(part) if part else None for part in inside.split(":")))
    rest, _, shift = (rest + tail).partition("+")
    axes, _, inner = rest.partition("/")
    return [Place(path, int(axis), region, int(inner or 1), int(shift or 0)) for axis in axes]


def network(
    *,
    variables: Any,
    inputs: tuple[Any, ...],
    groups: tuple[Expected, ...] = (),
    frozen: str = "",
    outputs: Callable[[Any], Any] | None = None,
    polymorphic: bool = True,
) -> Callable[[Callable[..., Any]], Network]:
    """Return a decorator that makes a network of its function; `variables` is a tree of shapes (or of arrays)."""
    pairs = frozenset((place.path, place.axis) for text in frozen.split() for place in _parse(text))

    def make(apply: Callable[..., Any]) -> Network:
        drawn = draw(variables, apply.__name__)
        return Network(apply.__name__, apply, drawn, inputs, groups, pairs, outputs, polymorphic)

    return make


def draw(shapes: Any, name: str) -> Any:
    """Return normal draws of these shapes, and positive ones for variances; the name is the seed."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))

    def fill(path: tuple[Any, ...], shape: Any) -> jax.Array:
        if not jnp.issubdtype(getattr(shape, "dtype", jnp.float32), jnp.floating):
            return jnp.ones(shape.shape, shape.dtype)  # a count of steps
        values = rng.normal(size=getattr(shape, "shape", shape)) / 2
        positive = "var" in jax.tree_util.keystr(path)
        return jnp.asarray(np.abs(values) + 0.5 if positive else values, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes, is_leaf=_is_shape)


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(size, int) for size in x)


def data(*shape: int) -> jax.Array:
    """Return an input of normal draws."""
    return jnp.asarray(np.random.default_rng(7).normal(size=shape), jnp.float32)


def tokens(*shape: int, vocabulary: int) -> jax.Array:
    """Return an input of token ids."""
    return jnp.asarray(np.random.default_rng(8).integers(vocabulary, size=shape), jnp.int32)
