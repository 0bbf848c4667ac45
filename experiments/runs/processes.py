"""Several processes as one program: on TPU pods, under SLURM and Kubernetes, or by hand."""

import dataclasses
import os
from collections.abc import Callable

import jax

from jaxticket import _processes
from jaxticket.errors import InputError

_START_TIMEOUT = 300  # seconds in which all processes must have come


@dataclasses.dataclass(frozen=True)
class Pod:
    """How processes find each other; by default there is one process."""

    distributed: bool = False
    """One of several processes that find each other: on a TPU pod, under SLURM, Kubernetes or Open MPI."""
    coordinator: str = ""
    """HOST:PORT of process 0, where nothing tells the processes of each other."""
    num_processes: int = 1
    """How many processes there are, with --coordinator."""
    process_id: int = 0
    """Which of them this is, from 0, with --coordinator."""

    def __post_init__(self) -> None:
        if not self.coordinator and (self.num_processes, self.process_id) != (1, 0):
            raise InputError("--coordinator is missing; give HOST:PORT of process 0, or --distributed alone")
        if self.coordinator and not self.coordinator.rpartition(":")[2].isdigit():
            raise InputError(f"--coordinator is {self.coordinator!r}, but must be HOST:PORT")
        if not 0 <= self.process_id < self.num_processes:
            below = f"--num-processes {self.num_processes}"
            raise InputError(f"--process-id is {self.process_id}, but must be at least 0 and below {below}")


def host_devices() -> None:
    """Makes a device of each core of the CPU, unless JAX_NUM_CPU_DEVICES says how many there are."""
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", os.cpu_count())


def start(pod: Pod) -> None:
    """Joins the other processes, if there are any, before anything of JAX runs. Raises InputError if none are found."""
    try:
        if pod.coordinator:
            jax.distributed.initialize(
                pod.coordinator, pod.num_processes, pod.process_id, initialization_timeout=_START_TIMEOUT
            )
        elif pod.distributed:
            jax.distributed.initialize(initialization_timeout=_START_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the processes of --distributed do not find each other ({' '.join(str(error).split())}); where nothing "
            "tells them, give --coordinator HOST:PORT --num-processes N --process-id K"
        ) from error


def is_main() -> bool:
    """Does this process write what only one may write: metrics, reports, progress?"""
    return _processes.is_first()


def on_main(act: Callable[[], None]) -> None:
    """Once all processes have come here, one acts, such as writing a file, and all go on when it has.

    Raises the CheckpointError of that process in each of them.
    """
    _processes.on_first(act)
