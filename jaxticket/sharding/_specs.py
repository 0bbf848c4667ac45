"""Layouts of parameters and batches on a mesh: fully sharded (FSDP), tensor-parallel, or both."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxticket import _tree
from jaxticket._check_trees import check_structure
from jaxticket.errors import InputError
from jaxticket.typing import Params, PyTree

Entry = None | str | tuple[str, ...]  # the mesh axes along one axis of an array


def fsdp(params: Params, mesh: Mesh, *, axis: str = "fsdp", minimum: int = 2**16, over: PyTree | None = None) -> PyTree:
    """Return shardings that split each leaf along its largest axis that the mesh axis divides (FSDP).

    Fully sharded data parallelism follows ZeRO (Rajbhandari et al., 2020): each device keeps a part of every large
    parameter, and GSPMD gathers it where it is used. Of axes of equal size the last is split.

    Args:
      params: arrays or ShapeDtypeStructs; nothing is computed.
      mesh: a Mesh or AbstractMesh, of Auto or Explicit axes.
      axis: the axis of the mesh to split over.
      minimum: leaves of fewer entries, and those that no axis fits, stay as they are.
      over: shardings to add to, such as those of `tensor_parallel`; only axes that they leave whole are split. Without
        it every leaf is replicated otherwise.

    Returns:
      A pytree of NamedShardings with the structure of `params`.

    Raises:
      InputError: an axis that the mesh does not have, or that `over` uses already.
      StructureError: an `over` of another structure.

    Examples:
      >>> import jax
      >>> mesh = jax.sharding.AbstractMesh((4, 2), ("data", "fsdp"))
      >>> fsdp({"kernel": jax.ShapeDtypeStruct((512, 130), float)}, mesh)["kernel"].spec
      P('fsdp', None)
    """
    _check_axes("axis", [axis], mesh)
    if minimum < 0:
        raise InputError(f"minimum={minimum} must not be negative; it counts the entries of a leaf")
    if over is None:
        over = _tree.map_present(lambda _: NamedSharding(mesh, PartitionSpec()), params)
    over = check_structure("over", over, "params", params)

    def split(leaf: Any, given: NamedSharding) -> NamedSharding:
        entries = _entries(given.spec, leaf.ndim)
        free = [i for i, n in enumerate(leaf.shape) if entries[i] is None and n and n % mesh.shape[axis] == 0]
        if leaf.size < minimum or not free:
            return given
        if any(axis in _axes(entry) for entry in entries):
            raise InputError(f"axis={axis!r} is already used by over ({given.spec}); name another axis of the mesh")
        largest = max(free, key=lambda i: (leaf.shape[i], i))
        return NamedSharding(mesh, PartitionSpec(*entries[:largest], axis, *entries[largest + 1 :]))

    return _tree.map_present(split, params, over)


def tensor_parallel(params: Params, mesh: Mesh, rules: Mapping[str, PartitionSpec]) -> PyTree:
    """Return shardings by rules: a leaf has the spec of the first rule that matches in its path, else is replicated.

    This is for layers that are split over devices as in Megatron-LM (Shoeybi et al., 2019): the columns of a layer that
    reads the stream, the rows of one that writes to it, the heads of attention. Paths are those of `filters.match`,
    such as 'blocks/block1/mlp/hidden/kernel'. `fsdp(..., over=...)` splits the result further.

    Args:
      params: arrays or ShapeDtypeStructs; nothing is computed.
      mesh: a Mesh or AbstractMesh, of Auto or Explicit axes.
      rules: regex -> PartitionSpec of axes of the mesh.

    Returns:
      A pytree of NamedShardings with the structure of `params`.

    Raises:
      NoMatchError: a rule that is the first match of no leaf.
      InputError: a spec that does not fit a leaf: too long, an unknown axis or one named twice, or a size that does not
        divide.

    Examples:
      >>> import jax
      >>> mesh = jax.sharding.AbstractMesh((4, 2), ("data", "tensor"))
      >>> params = {"mlp": {"kernel": jax.ShapeDtypeStruct((8, 32), float)}, "bias": jax.ShapeDtypeStruct((32,), float)}
      >>> shardings = tensor_parallel(params, mesh, {"mlp/kernel": PartitionSpec(None, "tensor")})
      >>> shardings["mlp"]["kernel"].spec, shardings["bias"].spec
      (P(None, 'tensor'), P())
    """
    specs = _tree.resolve(rules, params, default=PartitionSpec())
    return _tree.map_present(lambda leaf, name, spec: _fit(leaf, name, spec, mesh), params, _tree.names(params), specs)


def batch(mesh: Mesh, *, axes: Sequence[str] = ("data", "fsdp")) -> NamedSharding:
    """Return the sharding of a batch: its first axis, the examples, over those of `axes` that the mesh has.

    Devices along an axis of FSDP see different examples, as those along the data axis do; those along a tensor axis see
    the same.

    Args:
      mesh: a Mesh or AbstractMesh.
      axes: the axes of the mesh that split the examples.

    Returns:
      A NamedSharding.

    Raises:
      InputError: a mesh that has none of the axes.

    Examples:
      >>> import jax
      >>> batch(jax.sharding.AbstractMesh((4, 2, 2), ("data", "fsdp", "tensor"))).spec
      P(('data', 'fsdp'),)
    """
    present = tuple(axis for axis in axes if axis in mesh.shape)
    if not present:
        raise InputError(f"axes={tuple(axes)}: the mesh has none of them, only {tuple(mesh.shape)}; name one of those")
    return NamedSharding(mesh, PartitionSpec(present))


def _fit(leaf: Any, name: str, spec: PartitionSpec, mesh: Mesh) -> NamedSharding:
    """Return the sharding of a leaf by a spec, once it is checked to fit the leaf."""
    where = f"rules: {spec} for {name}, of shape {tuple(leaf.shape)}"
    if len(spec) > leaf.ndim:
        raise InputError(f"{where}, has more entries than the leaf has axes; give at most {leaf.ndim}")
    axes = [axis for entry in spec for axis in _axes(entry)]
    _check_axes(where, axes, mesh)
    if len(set(axes)) < len(axes):
        raise InputError(f"{where}, names a mesh axis twice; each can split one axis of a leaf")
    for size, entry in zip(leaf.shape, spec, strict=False):  # a spec may say less than all axes
        parts = math.prod(mesh.shape[axis] for axis in _axes(entry))
        if size % parts:
            raise InputError(
                f"{where}, splits {size} into {parts} parts, which does not divide; split another axis, or leave it "
                "replicated with a rule before this one"
            )
    return NamedSharding(mesh, spec)


def _entries(spec: PartitionSpec, ndim: int) -> list[Entry]:
    return [*spec, *[None] * (ndim - len(spec))]


def _axes(entry: Entry) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def _check_axes(where: str, axes: Sequence[str], mesh: Mesh) -> None:
    for axis in axes:
        if axis not in mesh.shape:
            raise InputError(f"{where}: the mesh has no axis {axis!r}, only {tuple(mesh.shape)}; name one of those")
