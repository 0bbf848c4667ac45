"""Several processes as one program: on TPU pods, under SLURM and Kubernetes, or by hand."""

import dataclasses
import os

import jax

from jaxticket.errors import InputError

_START_TIMEOUT = 300  # seconds in which all processes must have come


@dataclasses.dataclass(frozen=True)
class Pod:
    """The way in which processes find each other; by default there is one process."""

    distributed: bool = False
    """This is one of several processes that find each other: on a TPU pod, or under SLURM, Kubernetes or Open MPI."""
    coordinator: str = ""
    """HOST:PORT of process 0, where no cluster manager connects the processes."""
    num_processes: int = 1
    """The number of processes, with --coordinator."""
    process_id: int = 0
    """The number of this process, from 0, with --coordinator."""

    def __post_init__(self) -> None:
        if not self.coordinator and (self.num_processes, self.process_id) != (1, 0):
            raise InputError("--coordinator is missing; give HOST:PORT of process 0, or --distributed alone")
        if self.coordinator and not self.coordinator.rpartition(":")[2].isdigit():
            raise InputError(f"--coordinator is {self.coordinator!r}, but must be HOST:PORT")
        if not 0 <= self.process_id < self.num_processes:
            below = f"--num-processes {self.num_processes}"
            raise InputError(f"--process-id is {self.process_id}, but must be at least 0 and below {below}")


def host_devices() -> None:
    """Make a device of each core of the CPU, unless JAX_NUM_CPU_DEVICES gives their number."""
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", os.cpu_count())


def start(pod: Pod) -> None:
    """Join the other processes, if there are any, before JAX runs. Raises InputError if none answers."""
    try:
        if pod.coordinator:
            jax.distributed.initialize(
                pod.coordinator, pod.num_processes, pod.process_id, initialization_timeout=_START_TIMEOUT
            )
        elif pod.distributed:
            jax.distributed.initialize(initialization_timeout=_START_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the processes of --distributed do not find each other ({' '.join(str(error).split())}); without a "
            "cluster manager, give --coordinator HOST:PORT --num-processes N --process-id K"
        ) from error


def is_main() -> bool:
    """Whether this process writes the files and lines that only one may write: metrics, reports, progress."""
    return jax.process_index() == 0
