"""The conventions of frameworks: which leaves of a layer are its weights, and on which of their axes the inputs lie.

They go by the path names of flax, haiku and torch (plain dicts follow one of these), and by the classes of equinox,
whose layers all call their array `weight`. Nothing is imported for that.
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket.typing import Params, PyTree

# Gates of recurrent cells: haiku's w_i and w_h, equinox's and torch's weight_ih and weight_hh (also weight_ih_l0, …).
_OF_TORCH = r"weight|weight_(ih|hh|hr)(_l\d+)?(_reverse)?|(in|q|k|v)_proj_weight"
_WEIGHTS = re.compile(rf"kernel|w|w_[ih]|{_OF_TORCH}")
_OUTPUTS_FIRST = re.compile(_OF_TORCH)
_BIASES = re.compile(r"b|offset|(\w+_)?bias(_\w+)?")
# The layers whose `w` or `weight` is not a matrix of inputs and outputs: norms and embeddings.
_NORMS = re.compile(r"norm(alization)?_?\d*$|^(ln|bn|gn)(_\w+|\d*)$", re.IGNORECASE)
_EMBEDDINGS = re.compile(
    r"(?<!patch)(?<!patch_)(?<!un)embed(ding)?s?(_?\d+)?$|embed_(tokens|positions)$|^w[tp]e$", re.I
)
_CONVOLUTIONS = re.compile(r"conv", re.IGNORECASE)
# In flax's attention these kernels are (inputs, heads, head size), and `out` is (heads, head size, outputs).
_INPUTS_FIRST = re.compile(r"query|key|value")
_INPUTS_SECOND = re.compile(r"out")

_MATRICES_OF_EQUINOX = ("Linear", "Conv", "ConvTranspose", "GRUCell", "LSTMCell")
_OTHERS_OF_EQUINOX = ("Embedding", "LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm")


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a leaf: its path name, and the layer of equinox that holds it, if any does.

    Attributes:
      name: the path name.
      layer: the class of the layer, such as "Linear"; "" elsewhere.
      spatial: the number of axes of a convolution beside its channels.
    """

    name: str
    layer: str = ""
    spatial: int = 0

    @property
    def start(self) -> int:
        """The position in the path name at which the leaf's own name starts; torch separates names by dots."""
        return max(self.name.rfind("/"), self.name.rfind(".")) + 1

    @property
    def own(self) -> str:
        """The leaf's own name."""
        return self.name[self.start :]

    @property
    def parent(self) -> str:
        """The name of what holds the leaf, or ""."""
        return re.split(r"[/.]", self.name[: self.start - 1])[-1] if self.start else ""


def places(tree: PyTree) -> PyTree:
    """Return the place of each leaf (None leaves have places too)."""

    def fill(node: Any) -> PyTree:
        place = _in_equinox(node) or Place("")
        return jax.tree.map(lambda _: place, node, is_leaf=_tree.is_none)

    layers = jax.tree.map(fill, tree, is_leaf=lambda x: x is None or _in_equinox(x) is not None)
    return _tree.tree_map(lambda name, layer: dataclasses.replace(layer, name=name), _tree.names(tree), layers)


def trainable(model: PyTree) -> Params:
    """Return the float arrays of a module of equinox, None for all its other leaves; other pytrees as they are.

    Functions, counts and rates are leaves of such a module. Its gradients (`eqx.filter_grad`) are None there.
    """
    nodes = jax.tree.leaves(model, is_leaf=_is_module)
    if not any(_is_module(node) for node in nodes):
        return model
    floats = lambda x: hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)
    return jax.tree.map(lambda x: x if floats(x) else None, model)


def is_weight(place: Place, ndim: int) -> bool:
    """Whether a leaf is a weight of a layer that multiplies its inputs: neither a bias, a norm nor an embedding."""
    if ndim < 2 or not _WEIGHTS.fullmatch(place.own):
        return False
    if place.layer:
        return place.layer in _MATRICES_OF_EQUINOX
    other = _NORMS.search(place.parent) or _EMBEDDINGS.search(place.parent)
    return place.own not in ("w", "weight") or not other


def is_bias(place: Place) -> bool:
    """Whether a leaf is called as biases are."""
    return _BIASES.fullmatch(place.own) is not None


def input_axis(place: Place, ndim: int) -> int | None:
    """Return the axis of a leaf on which its inputs lie, counted from the end, or None if no convention gives it.

    Examples:
      >>> input_axis(Place("query/kernel"), 3), input_axis(Place("0.weight"), 2), input_axis(Place("x/kernel"), 3)
      (-3, -1, None)
    """
    if ndim < 2:
        return -2
    if place.layer:
        return -1 - place.spatial if place.layer in _MATRICES_OF_EQUINOX else None
    if _OUTPUTS_FIRST.fullmatch(place.own):
        known = ndim != 3 or _CONVOLUTIONS.search(place.parent)
        return 1 - ndim if known else None
    names = (place.parent, place.own)
    if ndim == 3 and any(map(_INPUTS_FIRST.fullmatch, names)):
        return -3
    known = ndim != 3 or any(map(_INPUTS_SECOND.fullmatch, names)) or _CONVOLUTIONS.search(place.parent)
    return -2 if known else None


def output_axes(place: Place, ndim: int) -> tuple[int, ...] | None:
    """Return the axes of a leaf on which its outputs lie, counted as `input_axis` counts, or None.

    Kernels of attention with more than their three axes are not known: another axis may be of layers.

    Examples:
      >>> output_axes(Place("query/kernel"), 3), output_axes(Place("0.weight"), 2), output_axes(Place("x/kernel"), 3)
      ((-2, -1), (-2,), None)
    """
    axis = input_axis(place, ndim)
    names = (place.parent, place.own)
    attention = any(f(name) for f in (_INPUTS_FIRST.fullmatch, _INPUTS_SECOND.fullmatch) for name in names)
    if axis is None or ndim < 2 or (attention and ndim > 3):
        return None
    if place.layer or _OUTPUTS_FIRST.fullmatch(place.own):
        return (-ndim,)
    return (-2, -1) if axis == -3 else (-1,)


def _is_module(node: Any) -> bool:
    return any(kind.__name__ == "Module" and kind.__module__.startswith("equinox.") for kind in type(node).__mro__)


def _in_equinox(node: Any) -> Place | None:
    for kind in type(node).__mro__:
        if str(kind.__module__).startswith("equinox.") and kind.__name__ in (
            *_MATRICES_OF_EQUINOX,
            *_OTHERS_OF_EQUINOX,
        ):
            return Place("", kind.__name__, getattr(node, "num_spatial_dims", 0))
    return None
