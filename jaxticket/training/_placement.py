"""Replicates in one program: sharded over the devices, and on each device batched or one after the other."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxticket.errors import InputError
from jaxticket.typing import Params, PyTree

# Below this many parameters a step on CPU is mostly the cost of starting its operations, which a batch shares.
_SMALL = 50_000


class Placement(NamedTuple):
    """The devices on which replicates run, and how a device runs several.

    Attributes:
      devices: the devices.
      batching: whether the replicates of a device are batched ("vmap") or run in turn ("map"). "sequence" is one call
        of the function a replicate, for functions that drive compiled steps from Python.
      why: the reason, for the plan that a user reads.
    """

    devices: tuple[jax.Device, ...]
    batching: Literal["vmap", "map", "sequence"]
    why: str  # for the plan that a user reads

    @property
    def mesh(self) -> Mesh:
        """The devices, along the axis "replicate"."""
        return Mesh(np.array(self.devices), ("replicate",))


def place(params: Params, replicates: int, *, devices: Sequence[jax.Device] | None = None) -> Placement:
    """Choose a placement for so many replicates of a training.

    Measured on CPU: convolutions inside compiled loops or under vmap run 2 to 14 times slower than step by step.
    Networks like LeNet-300-100 run fastest in turn, on as many host devices as there are cores; much smaller ones gain
    fivefold from vmap. Accelerators batch.

    Args:
      params: the parameters, as arrays or shapes.
      replicates: the number of replicates.
      devices: the devices to use; all by default.

    Returns:
      The placement.

    Raises:
      InputError: no replicates, or no devices.

    Examples:
      >>> import jax.numpy as jnp
      >>> place({"kernel": jnp.zeros((784, 300))}, 4, devices=jax.devices()[:1]).batching
      'map'
    """
    devices = tuple(jax.devices() if devices is None else devices)
    if replicates < 1 or not devices:
        raise InputError(f"replicates={replicates} on {len(devices)} devices: both must be at least 1")
    used = devices[: math.ceil(replicates / math.ceil(replicates / len(devices)))]
    leaves = jax.tree.leaves(params)
    if devices[0].platform != "cpu":
        return Placement(used, "vmap", f"batched on {len(used)} accelerator(s)")
    if any(leaf.ndim >= 4 for leaf in leaves):
        return Placement(
            devices[:1], "sequence", "one search after the other: convolutions on CPU are slow inside loops"
        )
    if sum(leaf.size for leaf in leaves) < _SMALL:
        return Placement(used, "vmap", f"batched on {len(used)} host device(s): the network is small")
    return Placement(used, "map", f"in turn on {len(used)} host device(s)")


def replicate(f: Callable[..., PyTree], *, placement: Placement) -> Callable[..., PyTree]:
    """Run f(shared, *arguments) for many replicates at once: (shared, *stacked arguments) -> stacked results.

    The arrays of stacked arguments and of results have a leading replicate axis. `shared` (a data set, or None) is the
    same for all; it is copied to each device once a call, unless it is replicated over `placement.mesh` already. The
    program compiles once for a number of replicates. If the devices do not divide it, the last replicate is repeated
    and the repetitions are dropped.

    Args:
      f: the function of one replicate.
      placement: the devices, and how each runs its replicates.

    Returns:
      The function of all replicates. It raises InputError for arguments whose leading axes differ or are missing.

    Examples:
      >>> import jax.numpy as jnp
      >>> in_turn = Placement(tuple(jax.devices()[:1]), "map", "")
      >>> replicate(lambda shared, x: shared * x.sum(), placement=in_turn)(10.0, jnp.arange(6.0).reshape(3, 2))
      Array([10., 50., 90.], dtype=float32)
    """
    several = _in_sequence(f) if placement.batching == "sequence" else _compile(f, placement)
    devices = len(placement.devices)

    def run(shared: PyTree, *arguments: PyTree) -> PyTree:
        count = _replicates(arguments)
        missing = -count % devices
        padded = jax.tree.map(lambda x: jnp.concatenate([x, *[x[-1:]] * missing]), arguments) if missing else arguments
        results = several(shared, *padded)
        return jax.tree.map(lambda x: x[:count], results) if missing else results

    return run


def _compile(f: Callable[..., PyTree], placement: Placement) -> Callable[..., PyTree]:
    def on_one_device(shared: PyTree, *arguments: PyTree) -> PyTree:
        if placement.batching == "vmap":
            return jax.vmap(lambda *args: f(shared, *args))(*arguments)
        return jax.lax.map(lambda args: f(shared, *args), arguments)

    split, same = PartitionSpec("replicate"), PartitionSpec()

    @jax.jit
    def everywhere(shared: PyTree, *arguments: PyTree) -> PyTree:
        specs = (same, *[split] * len(arguments))
        # Nothing is exchanged between replicates, so there is no replication to keep track of.
        sharded = jax.shard_map(on_one_device, mesh=placement.mesh, in_specs=specs, out_specs=split, check_vma=False)
        return sharded(shared, *arguments)

    def run(shared: PyTree, *arguments: PyTree) -> PyTree:
        # Arrays that are committed to one of the devices would be refused.
        put = lambda tree, spec: jax.device_put(tree, NamedSharding(placement.mesh, spec))
        return everywhere(put(shared, same), *put(arguments, split))

    return run


def _in_sequence(f: Callable[..., PyTree]) -> Callable[..., PyTree]:
    def run(shared: PyTree, *arguments: PyTree) -> PyTree:
        results = [f(shared, *jax.tree.map(lambda x: x[i], arguments)) for i in range(_replicates(arguments))]
        return jax.tree.map(lambda *xs: jnp.stack(xs), *results)

    return run


def _replicates(arguments: Any) -> int:
    counts = {jnp.shape(x)[:1] for x in jax.tree.leaves(arguments)}
    if len(counts) != 1 or () in counts:
        raise InputError(
            f"arguments have leading axes {sorted(counts)}; stack each with one axis of replicates in front"
        )
    return int(counts.pop()[0])
